#!/usr/bin/env python3
"""Train and test configs with several seeds each, and print mean, spread and differences.

What is finished is not done again, and an interrupted training is resumed, so that the same command
goes on where it was. Of detectors, the difference to the first config comes with a 95 % interval of
a bootstrap over test images and seeds.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.analysis.measured import read_metrics
from mmshuffle.analysis.paired import FIGURES, Boxes, Interval, differences, read_truth
from mmshuffle.checks import is_classifier_config
from mmshuffle.data.annotations import used_categories
from mmshuffle.engine import cli
from mmshuffle.engine.config import read_config, read_one_kind
from mmshuffle.engine.files import write_json
from mmshuffle.engine.resume import find_resumable
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table
from mmshuffle.reproduce.run import call, check_mark

EXAMPLE = """examples:
  python tools/train_seeds.py configs/imagenet/ablation/*_imagenet10-112px.py --seeds 0 1 2
  python tools/train_seeds.py MY_DETECTOR.py ANOTHER.py --work-dir work_dirs/both
"""
TOOLS = Path(__file__).parent
BOXES = 'boxes.bbox.json'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('configs', nargs='+', help='config files or names of shipped configs')
    count = cli.at_least(0)
    parser.add_argument('--seeds', nargs='+', type=count, default=[0, 1, 2], help='default 0 1 2')
    text = 'of the test (default accuracy/top1; of detectors AP and AP50)'
    parser.add_argument('--metrics', nargs='+', metavar='METRIC', help=text)
    parser.add_argument('--work-dir', default='work_dirs/seeds', help='default %(default)s')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='of all')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Do what is missing, then write seeds.json and print the table."""
    args = parse_args(argv)
    seeds, configs = list(dict.fromkeys(args.seeds)), read(args.configs)
    classify = is_classifier_config(next(iter(configs.values())))
    metrics = args.metrics or (['accuracy/top1'] if classify else list(FIGURES))
    folders = {
        path: [Path(args.work_dir) / Path(path).stem / f'seed_{seed}' for seed in seeds]
        for path in configs
    }
    products = ['metrics.json'] if classify else ['metrics.json', BOXES]
    runs = [(seed, path, folders[path][i]) for i, seed in enumerate(seeds) for path in configs]
    for number, (seed, path, folder) in enumerate(runs, 1):
        print(f'[{number}/{len(runs)}] {path}, seed {seed}: {folder}', file=sys.stderr)
        options = [f'randomness.seed={seed}', *args.cfg_options]
        claim(folder, configs[path], options)
        if not all((folder / name).is_file() for name in products):
            train_and_test(path, configs[path], folder, options)
    values = {
        path: {metric: [figure(folder, metric) for folder in folders[path]] for metric in metrics}
        for path in configs
    }
    target = Path(args.work_dir) / 'seeds.json'
    content: dict[str, Any] = dict(seeds=seeds, values=values, differences={})
    try:
        if not classify and len(configs) > 1:
            content['differences'] = compare(folders)
    finally:  # the figures do not hang on it
        write_json(content, target)
        print(table(values, content['differences']))
        print(f'figures written to {target}')


def read(names: list[str]) -> dict[str, Config]:
    """Configs by path, of which no two would share a folder."""
    configs, owners = read_one_kind(names), {}
    for path, cfg in configs.items():
        owner = owners.setdefault(Path(path).stem, path)
        if owner != path:
            raise UserError(f'{owner} and {path} would share a folder: give them different names')
        if not is_classifier_config(cfg) and 'ann_file' not in (cfg.get('test_evaluator') or []):
            raise UserError(
                f'{path} has no test_evaluator with an ann_file: give it one CocoMetric'
            )
    return configs


def claim(folder: Path, cfg: Config, options: list[str]) -> None:
    """Note what is trained in a folder, so that nothing else is taken for it."""
    text = json.dumps(cfg.to_dict(), default=repr, sort_keys=True)
    note = dict(options=sorted(options), config=hashlib.sha256(text.encode()).hexdigest())
    mark, known = folder / 'trained.json', (folder / 'metrics.json').is_file()
    if mark.is_file() or not known:
        check_mark(mark, note)
        write_json(note, mark)


def train_and_test(path: str, cfg: Config, folder: Path, options: list[str]) -> None:
    """Run ``tools/train.py``, which goes on with what is there, and ``tools/test.py``."""
    common = ['--work-dir', str(folder), '--cfg-options', *options]
    start('train', path, '--resume', *common)
    if not is_classifier_config(cfg):
        common.append(f'test_evaluator.outfile_prefix={folder / BOXES.split(".")[0]}')
    start('test', path, str(find_resumable(folder)), *common)


def start(tool: str, config: str, *args: str) -> None:
    """Run a tool on a config."""
    if call(['python', str(TOOLS / f'{tool}.py'), config, *args], subprocess.DEVNULL):
        raise UserError(f'tools/{tool}.py {config} failed, see above')


def figure(folder: Path, metric: str) -> float:
    """A metric of a run."""
    metrics = read_metrics(folder / 'metrics.json')['metrics']
    if metric not in metrics:
        raise UserError(f'{folder} has no {metric}: give --metrics of {", ".join(metrics)}')
    return metrics[metric]


def compare(folders: dict[str, list[Path]]) -> dict[str, dict[str, Interval]]:
    """Differences of the other configs to the first, by config and metric."""
    first, *others = folders
    tested = read_config(str(folders[first][0] / Path(first).name))  # with the options given
    truth = read_truth(tested.test_evaluator.ann_file)
    classes = (tested.test_dataloader.dataset.get('metainfo') or {}).get('classes')
    categories = used_categories(truth.dataset, classes)
    found = {
        path: Boxes(truth, categories, [folder / BOXES for folder in runs])
        for path, runs in folders.items()
    }
    return {path: dict(zip(FIGURES, differences(found[first], found[path]))) for path in others}


def table(values: dict[str, dict], intervals: dict[str, dict[str, Interval]]) -> str:
    """Mean, sample standard deviation, range and difference of each config as Markdown."""
    rows = []
    for path, figures in values.items():
        for metric, found in figures.items():
            found = [value * (1 if metric.startswith('accuracy') else 100) for value in found]
            mean, low, high = (f'{f(found):.1f}' for f in (statistics.mean, min, max))
            spread = f'{statistics.stdev(found):.1f}' if len(found) > 1 else '-'
            difference = '-'
            if interval := intervals.get(path, {}).get(metric):
                difference = '{:+.1f} [{:+.1f}, {:+.1f}]'.format(*(100 * x for x in interval))
            rows.append([Path(path).name, metric, mean, spread, low, high, difference])
    head = ['config', 'metric', 'mean', 'deviation', 'lowest', 'highest', 'to the first [95 %]']
    return markdown_table(head, rows)


if __name__ == '__main__':
    cli.run(main)
