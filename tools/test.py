#!/usr/bin/env python3
"""Evaluate a trained detector or classifier and write its figures as JSON."""

import argparse

from mmshuffle.engine import cli, options
from mmshuffle.engine.coco_eval import BACKENDS, coco_backend
from mmshuffle.engine.config import run_checks
from mmshuffle.engine.launch import build_runner

EXAMPLE = """example:
  python tools/test.py configs/faster_rcnn/faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py \\
      work_dirs/faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco/epoch_12.pth --show-dir pictures
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_config_parser(__doc__, EXAMPLE)
    parser.add_argument('checkpoint', help='checkpoint file')
    options.add_test_options(parser)
    text = 'what computes COCO figures; all give the same ones (default %(default)s)'
    parser.add_argument('--eval-backend', choices=BACKENDS, default=BACKENDS[0], help=text)
    options.add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Check the config, then test."""
    args = parse_args(argv)
    cfg = options.load_config(args)
    options.apply_test_options(cfg, args)
    if not args.no_check:
        run_checks(cfg, training=False)
    if args.tta:
        options.apply_tta(cfg)
    with coco_backend(args.eval_backend):
        runner = build_runner(cfg)
        if args.out is not None:
            options.keep_predictions(runner, args.out)
        metrics = runner.test()
    options.write_metrics(cfg, args, metrics)


if __name__ == '__main__':
    cli.run(main)
