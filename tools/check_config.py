#!/usr/bin/env python3
"""Check the config of a detector or classifier: channels, strides, classes, data and paths.

Exit code 0: sound, or warnings only. 2: errors.
"""

import sys

from mmshuffle.engine import cli
from mmshuffle.engine.config import find_problems, read_config

EXAMPLE = """example:
  python tools/check_config.py configs/faster_rcnn/faster-rcnn_shufflenetv1-x1.0-g3_fpn_1x_coco.py
"""


def main(argv: list[str] | None = None) -> int:
    """Print one line a problem."""
    parser = cli.make_config_parser(__doc__, EXAMPLE)
    args = parser.parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    problems = find_problems(cfg)
    for problem in problems:
        print(f'{"error" if problem.fatal else "warning"}: {problem}', file=sys.stderr)
    if any(problem.fatal for problem in problems):
        return 2
    print(f'{args.config}: sound')
    return 0


if __name__ == '__main__':
    cli.run(main)
