#!/usr/bin/env python3
"""Reproduce a table of a paper: pretraining, training, test and latency of each row, a report.

What is done already is skipped, so that a run that was killed goes on where it was. Several
processes, on one machine or on many, may run the same command on one work dir: each step is done by
one of them. --scale miniature runs the whole pipeline on drawn data in minutes; --subset DIR trains
a table's detectors on a set of one's own.
"""

import argparse
import dataclasses
from pathlib import Path

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.analysis.comparison import Compared
from mmshuffle.analysis.measured import MARK
from mmshuffle.analysis.tables import Row, Table, load_table, select_rows
from mmshuffle.deploy.export import FORMATS
from mmshuffle.engine import cli, files, shipped
from mmshuffle.errors import UserError
from mmshuffle.reproduce.plan import DEFAULT_FOLDER, Planner, missing, to_commands, to_markdown
from mmshuffle.reproduce.run import call, check_mark, run
from mmshuffle.reproduce.scale import SCALES, Scale

EXAMPLE = """examples:
  python tools/reproduce.py shufflenet_v1/table7 --dry-run
  python tools/reproduce.py shufflenet_v1/table7 --launcher pytorch --gpus 8
  python tools/reproduce.py shufflenet_v1/table7 --scale miniature
  python tools/reproduce.py shufflenet_v1/table7 --rows "2x, 600" MobileNet --subset data/my_set
"""
# 10^9 multiply-adds a second, forward and backward. GPU: what ShuffleNet V2's Table 8 prints for
# its 1x network on a GTX 1080 Ti, 341 batches/s of 8 images with 146 M; a card of today is faster,
# reading images may be slower. CPU: seen on one core of a server with the miniature's networks.
GPU, CPU = 400.0, 12.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('table', help='paper and table; tools/compare.py --list names them')
    text = 'only these: numbers from 1, or parts of their models'
    parser.add_argument('--rows', nargs='+', metavar='ROW', help=text)
    parser.add_argument('--dry-run', action='store_true', help='print the plan and run nothing')
    parser.add_argument('--data', metavar='DIR', help='COCO (default data/coco)')
    text = 'ImageNet (default data/imagenet); with --subset: class folders in train/ and val/'
    parser.add_argument('--imagenet', metavar='DIR', help=text)
    text = f'default {DEFAULT_FOLDER}; with --scale or --subset a folder of its own below'
    parser.add_argument('--work-dir', metavar='DIR', help=text)
    text = 'a training of a row each; default 0 1 with --scale or --subset, else one without a seed'
    parser.add_argument('--seeds', nargs='+', type=cli.at_least(0), metavar='N', help=text)
    parser.add_argument('--no-latency', action='store_true', help='measure no time on this machine')
    small = parser.add_mutually_exclusive_group()
    names = [name for name in SCALES if name != 'subset']
    count = dict(type=cli.at_least(1), metavar='N')
    text = "instead of the paper's: on drawn data, and smoke only to see that it runs"
    small.add_argument('--scale', choices=names, help=text)
    small.add_argument('--subset', metavar='DIR', help="on a detection set in COCO's format")
    parser.add_argument('--epochs', help='of a detector, with --subset', **count)
    running = parser.add_argument_group('running')
    running.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    running.add_argument('--gpus', default=1, help='default %(default)s', **count)
    running.add_argument('--partition', default='', help='of slurm')
    text = 'for the hours of the plan: 10^9 multiply-adds a second of one device'
    text += f' (default {GPU:g} for a GPU, {CPU:g} for a core with --scale)'
    positive = cli.at_least(0.001, float)
    running.add_argument('--throughput', type=positive, metavar='G', help=text)
    args = parser.parse_args(argv)
    small = args.scale or args.subset
    for wrong, message in (
        ((args.launcher == 'slurm') != bool(args.partition), '--launcher slurm needs --partition'),
        (args.gpus > 1 and args.launcher == 'none', '--gpus needs --launcher pytorch or slurm'),
        (args.scale and args.imagenet, '--scale draws its data: leave out --imagenet'),
        (small and args.data, "--data is for the paper's scale: leave it out"),
        (args.epochs and not args.subset, '--epochs needs --subset'),
    ):
        if wrong:
            raise UserError(message)
    if args.subset:
        args.scale = 'subset'
    return args


def choose_rows(args: argparse.Namespace, table: Table, scale: Scale | None) -> list[Row]:
    """The rows that can be run; says why others cannot."""
    if scale is not None and 'coco_map' not in table.columns:
        raise UserError(f'{table.name} is of classifiers: --scale and --subset are for detectors')
    rows = list(table.rows) if scale is None else scale.rows(table.rows)
    chosen = []
    for row in select_rows(table, args.rows) if args.rows else rows:
        if row.config and shipped.locate(row.config):
            chosen.append(row)
        else:
            print(f'left out: {row.model}: {Compared(row).missing}')
    if not chosen:
        raise UserError(f'{table.name}: none of these rows can be run; choose others with --rows')
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Plan, run what is missing, report."""
    args = parse_args(argv)
    table = load_table(args.table)
    below = Path(args.scale, table.name.replace('/', '_')) if args.scale else ''
    folder, scale = Path(args.work_dir or Path(DEFAULT_FOLDER, below)), None
    if args.scale:
        given = dict(data=args.subset, imagenet=args.imagenet)
        given |= dict(epochs=args.epochs) if args.epochs else {}
        scale = dataclasses.replace(SCALES[args.scale], folder=folder / 'data', **given)
    facts = scale and scale.facts(table.name)
    if folder.is_file():
        raise UserError(f'work dir {folder} is a file; give a folder')
    check_mark(folder / MARK, facts, any(folder.glob('*/*.pth')))
    rows = choose_rows(args, table, scale)
    seeds = args.seeds or ([] if scale is None else [0, 1])
    launch = args.launcher, args.gpus, args.partition
    planner = Planner(folder, scale, list(dict.fromkeys(seeds)), *launch, args.data, args.imagenet)
    steps = [steps for row in rows if row.has_accuracy for steps in planner.trainings(row)]
    speed = CPU if args.scale and not args.subset else GPU
    print(to_markdown(steps, args.throughput or speed, args.gpus))
    if scale is not None:
        print(f'\n{scale.note}')
    if not args.no_latency:
        steps.append([planner.latency(rows)])
    if args.dry_run:
        print('', *to_commands(steps), sep='\n')
        return 0
    if not args.no_latency and missing(steps[-1]):  # which comes after the trainings
        try:
            FORMATS['onnx'].require()
        except UserError as error:
            raise UserError(f'{error}, or give --no-latency') from None
    planner.prepare()
    if facts is not None:
        files.write_json(facts, folder / MARK)
    failed = run(steps, folder)
    report = planner.report(table, rows)
    if '--html' not in report:
        print('the report has no HTML file: pip install plotly')
    code = call(report)
    if failed:
        raise UserError(f'not done: {", ".join(failed)}, and what needs them; see above')
    return code


if __name__ == '__main__':
    cli.run(main)
