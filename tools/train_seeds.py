#!/usr/bin/env python3
"""Train configs with several seeds each, one after the other, and print mean and spread.

What is finished is not trained again, so that an interrupted comparison goes on where it was.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from mmshuffle.engine import cli, shipped
from mmshuffle.engine.config import read_config
from mmshuffle.engine.files import read_json, write_json
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """example:
  python tools/train_seeds.py configs/imagenet/ablation/*_imagenet10-112px.py --seeds 0 1 2
"""
TRAIN = Path(__file__).with_name('train.py')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('configs', nargs='+', help='configs that have HistoryHook, by file or name')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='default 0 1 2')
    text = 'of the last validation (default %(default)s)'
    parser.add_argument('--metric', default='accuracy/top1', help=text)
    parser.add_argument('--work-dir', default='work_dirs/seeds', help='default %(default)s')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, then write seeds.json and print the table."""
    args = parse_args(argv)
    seeds = list(dict.fromkeys(args.seeds))
    configs = list(dict.fromkeys(map(shipped.resolve, args.configs)))
    runs = [(path, seed) for seed in seeds for path in configs]
    ends, owners = {}, {}
    for path in configs:
        owner = owners.setdefault(Path(path).stem, path)
        if owner != path:
            raise UserError(f'{owner} and {path} would share a folder: give them different names')
        cfg = read_config(path)
        loop = cfg.get('train_cfg') or {}
        ends[path] = loop.get('max_epochs') or loop.get('max_iters')
        if not any('HistoryHook' in str(hook['type']) for hook in cfg.get('custom_hooks') or []):
            raise UserError(f"{path} has no dict(type='HistoryHook') in custom_hooks: add it")
    values: dict[str, list[float]] = {path: [] for path in configs}
    for number, (path, seed) in enumerate(runs, 1):
        folder = Path(args.work_dir) / Path(path).stem / f'seed_{seed}'
        print(f'[{number}/{len(runs)}] {path}, seed {seed}: {folder}', file=sys.stderr)
        value = finished(folder, ends[path], args.metric)
        if value is None:
            train(path, seed, folder)
            value = finished(folder, ends[path], args.metric)
        if value is None:
            raise UserError(f'{folder} has no validation at its end: set train_cfg.val_interval')
        values[path].append(value)
    content = dict(metric=args.metric, seeds=seeds, values=values)
    target = Path(args.work_dir) / 'seeds.json'
    write_json(content, target)
    print(table(values, args.metric))
    print(f'figures written to {target}')


def finished(folder: Path, end: int, metric: str) -> float | None:
    """The metric at the end of a run; None where the run has not reached it.

    Raises:
        UserError: The run has ended without this metric.
    """
    path = folder / 'history.json'
    if not path.is_file():
        return None
    records = read_json(path)
    last = records[-1] if records else {}
    if last.get('epoch', last.get('iter')) != end or 'metrics' not in last:
        return None
    if last['metrics'].get(metric) is None:
        has = ', '.join(last['metrics'])
        raise UserError(f'{folder} has no {metric} at its end: give --metric one of {has}')
    return last['metrics'][metric]


def train(path: str, seed: int, folder: Path) -> None:
    """Run ``tools/train.py``."""
    options = [f'randomness.seed={seed}']
    command = [sys.executable, TRAIN, path, '--work-dir', folder, '--cfg-options', *options]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise UserError(f'training {path} with seed {seed} failed, see above')


def table(values: dict[str, list[float]], metric: str) -> str:
    """Mean, sample standard deviation, lowest and highest of each config as Markdown."""
    rows = []
    for path, found in values.items():
        spread = f'{statistics.stdev(found):.1f}' if len(found) > 1 else '-'
        numbers = (f'{value:.1f}' for value in (min(found), max(found)))
        rows.append([Path(path).name, f'{statistics.mean(found):.1f}', spread, *numbers])
    return markdown_table(['config', f'{metric}, mean', 'deviation', 'lowest', 'highest'], rows)


if __name__ == '__main__':
    cli.run(main)
