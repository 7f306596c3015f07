#!/usr/bin/env python3
"""Convert published weights to this package's names, or list the zoo.

The network is the zoo's or, for other files, the one of the recognised family that fits. Nothing is
written unless every tensor of the network is there in the right shape.
"""

import argparse
from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks import is_classifier_config
from mmshuffle.engine import cli
from mmshuffle.engine.config import read_config, register_config_imports
from mmshuffle.engine.weight_files import check_suffix, write_weights
from mmshuffle.errors import UserError
from mmshuffle.weights.convert import convert_file
from mmshuffle.weights.reader import path_if_here
from mmshuffle.weights.zoo import ENTRIES, SCHEME

EXAMPLE = """examples:
  python tools/convert_weights.py --list
  python tools/convert_weights.py mmshuffle://timm/mobilenetv1-x1.0 checkpoints/mobilenetv1-x1.0.pth
  python tools/convert_weights.py mobilenet_v1_0.5_160.npz mobilenetv1-x0.5.safetensors \\
      --network MobileNetV1 --args widen_factor=0.5
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    text = 'path, http(s) address or zoo name of a .pth, .pt, .safetensors or .npz file'
    parser.add_argument('source', nargs='?', metavar='IN', help=text)
    text = 'file to write, .safetensors or .pth'
    parser.add_argument('target', nargs='?', metavar='OUT', help=text)
    parser.add_argument('--list', action='store_true', help='print the zoo and stop')
    network = parser.add_mutually_exclusive_group()
    network.add_argument('--network', metavar='NAME', help='name of a registered backbone')
    text = "config whose backbone it is for; a classifier's includes its last layer"
    network.add_argument('--config', help=text)
    options = dict(action=cli.ConfigOptions, metavar='KEY=VALUE', help='arguments of --network')
    parser.add_argument('--args', nargs='+', default={}, **options)
    parser.add_argument('--prefix', help='take only what the file has below this name')
    args = parser.parse_args(argv)
    if not args.list and args.target is None:
        raise UserError('give IN and OUT, or --list')
    if args.args and args.network is None:
        raise UserError('--args are those of --network: give it')
    return args


def find_network(args: argparse.Namespace) -> dict[str, Any] | None:
    """Config of the network that the command line names, None where it names none."""
    if args.network is not None:
        return dict(type=args.network, **args.args)
    if args.config is None:
        return None
    cfg = read_config(args.config)
    register_config_imports(cfg)
    if is_classifier_config(cfg):
        return cfg.model.to_dict()
    backbone = (cfg.get('model') or {}).get('backbone')
    if backbone is None:
        raise UserError(f'config {args.config} has no model.backbone: give one that has')
    return backbone.to_dict()


def zoo_table() -> str:
    """The zoo, a line a file."""
    rows = [('name', 'family', 'top-1', 'published by', 'licence', 'cached', 'address')]
    for entry in ENTRIES:
        name = SCHEME + entry.name
        path = path_if_here(name)
        size = '-' if path is None else f'{path.stat().st_size / 1e6:.1f} MB'
        top1 = f'{entry.top1:.2f}'
        rows.append((name, entry.family, top1, entry.source, entry.licence, size, entry.url))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> None:
    """Convert, or list."""
    args = parse_args()
    if args.list:
        print(zoo_table())
        return
    target = Path(args.target)
    check_suffix(target)
    init_default_scope('mmdet')
    module, config, report = convert_file(args.source, find_network(args), args.prefix)
    write_weights(module.state_dict(), target)
    given = ', '.join(f'{key}={value!r}' for key, value in config.items())
    print(f'{report}\nwritten to {target}, for dict({given})')


if __name__ == '__main__':
    cli.run(main)
