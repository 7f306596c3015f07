#!/usr/bin/env python3
"""Check a data set with all of its images: annotations, sizes, EXIF, damage, copies, leakage.

The set is one of COCO's format or of a folder a class; or a config names it. Exit code 0: sound,
or warnings only. 2: errors.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from tqdm import tqdm

from mmshuffle.checks.problem import raise_on
from mmshuffle.checks.sources import Sources, from_config, from_paths
from mmshuffle.checks.verify import verify
from mmshuffle.engine import cli
from mmshuffle.engine.config import read_config, register_config_imports
from mmshuffle.engine.files import write_json
from mmshuffle.errors import UserError

EXAMPLE = """examples:
  python tools/verify_dataset.py data/my_set
  python tools/verify_dataset.py data/my_set/train.json data/my_set/images \\
      --val data/my_set/val.json data/my_set/images --json report.json
  python tools/verify_dataset.py data/imagenet/train --val data/imagenet/val
  python tools/verify_dataset.py --config configs/finetune/bccd.py
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    text = 'an annotation file and its image folder (default: that of the file); or a folder of '
    text += "class folders; or a whole set's folder, with the parts train and val"
    parser.add_argument('train', nargs='*', metavar='DATA', help=text)
    text = 'the same for the validation part'
    parser.add_argument('--val', nargs='+', default=[], metavar='DATA', help=text)
    parser.add_argument('--config', help='check the data of this config instead')
    cli.add_config_options(parser)
    parser.add_argument('--masks', action='store_true', help='check the segmentations too')
    text = 'processes that open images; 0 for none (default: %(default)s)'
    count = dict(type=cli.at_least(0), default=os.cpu_count() or 1, metavar='N')
    parser.add_argument('--workers', **count, help=text)
    parser.add_argument('--json', metavar='FILE', help='write all findings there')
    return parser.parse_args()


def read_source(args: argparse.Namespace) -> Sources:
    """Find the data that the command line names, and check its annotations."""
    if bool(args.config) == bool(args.train):
        raise UserError('give the data, or a config with --config')
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise UserError(f'--json {args.json}: the folder does not exist; make it first')
    if args.config:
        cfg: Config = read_config(args.config, args.cfg_options)
        register_config_imports(cfg)
        return from_config(cfg)
    return from_paths(args.train, args.val, args.masks)


def describe(part: dict[str, Any]) -> str:
    """Numbers of a part, in one line."""
    head = f'{part["part"]}: {part["source"]}, {part["images"]} images'
    if 'classes' in part:
        return f'{head}, {part["classes"]} classes'
    return f'{head}, {part["missing"]} missing, {part["kept"]} of {part["boxes"]} boxes are kept'


def main() -> int:
    """Print one line a problem and one a part."""
    args = parse_args()
    problems, parts = read_source(args)
    total = sum(len(part.pictures) for part in parts)
    if not total and not args.json:
        raise_on(problems)
    started = time.perf_counter()
    interval = 0.5 if sys.stderr.isatty() else 30
    form = dict(desc='images', unit=' images', dynamic_ncols=True, mininterval=interval)
    with tqdm(total=total, **form) as bar:
        of_images, faults = verify(parts, args.workers, bar.update)
    seconds = time.perf_counter() - started
    problems += of_images
    for problem in problems:
        print(f'{"error" if problem.fatal else "warning"}: {problem}', file=sys.stderr)
    for part in parts:
        print(describe(part.facts))
    speed = total / max(seconds, 1e-9)
    print(f'{total} images opened in {seconds:.1f} s, {speed:.0f} images/s')
    errors = sum(problem.fatal for problem in problems)
    if args.json:
        report: dict[str, Any] = {
            'sound': not errors,
            'parts': [part.facts for part in parts],
            'problems': [dict(where=p.where, message=p.message, error=p.fatal) for p in problems],
            'faults': [dict(part=part, **vars(fault)) for part, fault in faults],
            'images': total,
            'seconds': seconds,
            'images_per_second': speed,
        }
        write_json(report, args.json)
        print(f'report written to {args.json}')
    print(f'{errors} errors, {len(problems) - errors} warnings' if problems else 'sound')
    return 2 if errors else 0


if __name__ == '__main__':
    cli.run(main)
