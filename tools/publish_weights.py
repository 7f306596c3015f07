#!/usr/bin/env python3
"""Make a file to hand out from a checkpoint: its weights alone, with a hash in the name.

Optimiser state, moving averages, logs and every other thing that is no tensor of the network stay
behind.
"""

from mmshuffle.engine import cli
from mmshuffle.engine.weight_files import SUFFIXES, publish

EXAMPLE = """examples:
  python tools/publish_weights.py work_dirs/my_detector/epoch_12.pth published/
  python tools/publish_weights.py work_dirs/my_net/epoch_240.pth published/my_net --backbone-only
"""


def main() -> None:
    """Write the file and say what it is."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('checkpoint', metavar='IN', help='checkpoint of a run, or other weights')
    text = 'folder, or path of the file without its end; -HASH and the format are added'
    parser.add_argument('target', metavar='OUT', help=text)
    text = 'keep the backbone alone, by its own names, to start other detectors from'
    parser.add_argument('--backbone-only', action='store_true', help=text)
    formats, text = [suffix[1:] for suffix in SUFFIXES], 'format of the file (default: %(default)s)'
    parser.add_argument('--format', choices=formats, default=formats[0], help=text)
    parser.add_argument('--force', action='store_true', help='overwrite a file of the same name')
    args = parser.parse_args()
    path, sha256 = publish(
        args.checkpoint, args.target, f'.{args.format}', args.backbone_only, args.force
    )
    print(f'{path}\n{path.stat().st_size} bytes\nsha256 {sha256}')


if __name__ == '__main__':
    cli.run(main)
