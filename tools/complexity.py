#!/usr/bin/env python3
"""Count multiply-adds, parameters, activations and memory access of a network, part by part.

The papers' convention: multiply-adds are of convolutions and fully connected layers only;
BatchNorm, activations and pooling are not counted.
"""

import argparse
from pathlib import Path

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.analysis.complexity import CONVENTION
from mmshuffle.analysis.model_cost import ModelCost, count_model
from mmshuffle.engine import cli
from mmshuffle.engine.files import write_json
from mmshuffle.engine.network import build_model, list_parts, load_model_config
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """examples:
  python tools/complexity.py configs/faster_rcnn/faster-rcnn_mobilenetv1-x1.0_c4-300_1x_coco.py \\
      --shape 300 300 --json cost.json
  python tools/complexity.py shufflenetv1-x1.0-g3
  python tools/complexity.py ShuffleNetV2 --args widen_factor=1.0 "out_indices=[4]" --shape 320 320
  python tools/complexity.py SqueezeNet --args "version='1.1'"
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    text = 'config file; name of a shipped config, for ImageNet also without the recipe '
    text += '(shufflenetv2-x1.0); or name of a registered backbone (ShuffleNetV2)'
    parser.add_argument('model', metavar='CONFIG|NAME', help=text)
    cli.add_shape(parser, '224 224 by default, and to be given for a detector')
    text = 'arguments of a registered backbone; text that reads as a number in quotes of its own'
    options = dict(action=cli.ConfigOptions, metavar='KEY=VALUE', help=text)
    parser.add_argument('--args', nargs='+', default={}, **options)
    text = 'RoIs of a two-stage detector; those its test_cfg keeps by default'
    parser.add_argument('--proposals', type=cli.at_least(1), metavar='N', help=text)
    parser.add_argument('--json', metavar='OUT', help='write the figures to this file')
    cli.add_config_options(parser)
    return parser.parse_args(argv)


def count(args: argparse.Namespace) -> ModelCost:
    """Count what ``args.model`` names."""
    cfg = load_model_config(args.model, args.cfg_options, args.args)
    if args.shape is None and list_parts(cfg)[-1] == 'detector':
        raise UserError(f'{args.model}: give --shape H W, the size that a detector gets images in')
    cost = count_model(build_model(cfg, 'meta'), tuple(args.shape or (224, 224)), args.proposals)
    if args.proposals is not None and cost.proposals is None:
        raise UserError(f'--proposals: {args.model} is no two-stage detector; leave it out')
    return cost


def report(name: str, cost: ModelCost) -> str:
    """Format a cost as Markdown, with what its figures mean."""
    at = '{}x{}'.format(*cost.shape)
    if cost.proposals is not None:
        at += f', {cost.proposals} proposals'
    head = ['part', 'multiply-adds, M', 'parameters, M', 'activations, M', 'memory access, M']
    rows = []
    for part, c in (*cost.parts.items(), ('total', cost.total)):
        numbers = (c.multiply_adds, c.parameters, c.activations, c.memory_access)
        rows.append([part, *(f'{number / 1e6:.3f}' for number in numbers)])
    lines = [f'{name}, {at}\n', markdown_table(head, rows), '', CONVENTION]
    if cost.idle:
        lines.append(
            f'Not run, and counted with their parameters only: {len(cost.idle)} layers '
            f'({", ".join(cost.idle[:3])}{", ..." if len(cost.idle) > 3 else ""}).'
        )
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    """Count and print."""
    args = parse_args(argv)
    cost = count(args)
    print(report(Path(args.model).stem if args.model.endswith('.py') else args.model, cost))
    if args.json:
        write_json(dict(model=args.model, **cost.as_dict()), args.json)


if __name__ == '__main__':
    cli.run(main)
