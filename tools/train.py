#!/usr/bin/env python3
"""Train a detector or a classifier from a config, on one device or many."""

import argparse

from mmshuffle.engine import cli
from mmshuffle.engine.config import run_checks
from mmshuffle.engine.launch import build_runner
from mmshuffle.engine.options import add_common_arguments, apply_training_options, load_config

EXAMPLE = """example:
  python tools/train.py configs/faster_rcnn/faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py --amp
  torchrun --nproc_per_node=8 tools/train.py CONFIG --launcher pytorch   (or tools/dist_train.sh)
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_config_parser(__doc__, EXAMPLE)
    text = 'go on from a checkpoint: the one named, else the furthest one of the work dir'
    parser.add_argument('--resume', nargs='?', const='auto', help=text)
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    text = "add up the gradients of so many batches for one step; 'auto': as many as reach the "
    text += 'total batch size of the config, auto_scale_lr.base_batch_size'
    parser.add_argument('--accumulate', metavar='BATCHES', help=text)
    text = 'scale the learning rate by the total batch size against auto_scale_lr of the config'
    parser.add_argument('--auto-scale-lr', action='store_true', help=text)
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Check the config, then train."""
    args = parse_args(argv)
    cfg = load_config(args)
    apply_training_options(cfg, args)
    if not args.no_check:
        run_checks(cfg)
    build_runner(cfg).train()


if __name__ == '__main__':
    cli.run(main)
