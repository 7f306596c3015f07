#!/usr/bin/env python3
"""Train and evaluate Faster R-CNN with ShuffleNetV2 0.5x, on the CPU too.

Without --data a set of pictures is drawn first, so nothing is downloaded. With --data DIR the same
detector is trained on a folder in COCO's format. Checkpoint, figures (result.json), curves
(curve.png) and pictures with boxes (pictures/, the true ones on the left) go to the work dir.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmshuffle.checks.dataset_config import type_name
from mmshuffle.data.annotations import read_annotations
from mmshuffle.data.finetune import DetectionData, apply_dataset, apply_epochs, find_dataset
from mmshuffle.data.synthetic import draw_dataset
from mmshuffle.detection import report
from mmshuffle.engine import cli
from mmshuffle.engine.config import read_config, require_loops, run_checks
from mmshuffle.engine.files import write, write_json
from mmshuffle.engine.launch import build_runner
from mmshuffle.engine.progress import HistoryHook, quiet_screen
from mmshuffle.engine.resume import find_resumable, resume_from
from mmshuffle.errors import UserError
from mmshuffle.pretrained import split_init_cfg

DRAWN = 'faster-rcnn_shufflenetv2-x0.5_fpn_1xb2-12e_quickstart'
FINETUNE = 'faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_coco'
PACKAGES = ('mmshuffle', 'torch', 'mmdet', 'mmengine', 'mmcv', 'pycocotools', 'numpy')

EXAMPLE = """examples:
  python tools/quickstart.py
  python tools/quickstart.py --data data/my_set --epochs 24 --work-dir work_dirs/my_set
  python tools/quickstart.py --data data/my_set --checkpoint shufflenetv2_x0.5-f707e7126e.pth
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    data = parser.add_argument_group('your own data')
    data.add_argument('--data', metavar='DIR', help="folder in COCO's format")
    for split in ('train', 'val'):
        for part, form, what in (('ann', 'FILE', 'annotations'), ('images', 'DIR', 'folder')):
            text = f'{what} of the {split} images, where not found by the usual names'
            data.add_argument(f'--{split}-{part}', metavar=form, help=text)
    count = dict(type=cli.at_least(1), metavar='N')
    drawn = parser.add_argument_group('the drawn set')
    drawn.add_argument('--draw-train', **count, default=400, help='images')
    drawn.add_argument('--draw-val', **count, default=100, help='images')
    drawn.add_argument('--draw-dir', default='data/drawn', help='where it is kept (%(default)s)')
    training = parser.add_argument_group('training')
    training.add_argument('--config', help=f'in the place of {DRAWN}, or with --data {FINETUNE}')
    text = "pretrained weights of the backbone instead of the config's; 'none' for none"
    training.add_argument('--checkpoint', metavar='FILE', help=text)
    training.add_argument('--epochs', **count, help="instead of the config's")
    training.add_argument('--batch-size', **count, help="instead of the config's")
    training.add_argument('--seed', type=int, default=0, metavar='N', help='default %(default)s')
    training.add_argument('--work-dir', help='default work_dirs/quickstart, or of --data its name')
    text = 'go on from the furthest checkpoint of the work dir'
    training.add_argument('--resume', action='store_true', help=text)
    cli.add_config_options(parser)
    args = parser.parse_args(argv)
    if args.work_dir is None:
        args.work_dir = f'work_dirs/{Path(args.data).resolve().name if args.data else "quickstart"}'
    return args


def prepare_data(args: argparse.Namespace) -> DetectionData:
    """Draw the set or find the user's."""
    names = ('train_ann', 'val_ann', 'train_images', 'val_images')
    overrides = {name: getattr(args, name) for name in names}
    if args.data is not None:
        return find_dataset(args.data, **overrides)
    for name, value in overrides.items():
        if value is not None:
            raise UserError(f'--{name.replace("_", "-")} needs --data')
    # The name says what is in it, so that two runs of different sizes do not disturb each other.
    root = Path(args.draw_dir) / f'{args.draw_train}-{args.draw_val}'
    draw_dataset(root, args.draw_train, args.draw_val)
    return find_dataset(root)


def fit_config(cfg: Config, args: argparse.Namespace, dataset: DetectionData) -> None:
    """Fit the config to the data and the command line."""
    cfg.work_dir = args.work_dir
    apply_dataset(cfg, dataset)
    apply_epochs(cfg, args.epochs, args.batch_size, dataset.train.count)
    if args.checkpoint == 'none':
        cfg.model.backbone.init_cfg = None
    elif args.checkpoint is not None:
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=args.checkpoint)
    cfg.randomness = dict(seed=args.seed)
    cfg.launcher = 'none'
    coco_metric(cfg).outfile_prefix = str(predictions_of(cfg)).removesuffix('.bbox.json')
    # Every epoch can be resumed from, and no more than two fill the disk.
    hooks = cfg.get('default_hooks') or {}
    checkpoint = hooks.get('checkpoint') or dict(type='CheckpointHook')
    checkpoint.update(interval=1, max_keep_ckpts=2)
    cfg.default_hooks = {**hooks, 'checkpoint': checkpoint}
    added = [dict(type='ProgressHook'), dict(type='HistoryHook')]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *added]
    if args.resume and (found := find_resumable(args.work_dir)):
        resume_from(cfg, found)


def train(cfg: Config) -> tuple[dict[str, float], list[dict[str, Any]], str]:
    """Train and evaluate; returns the metrics, the history and the device."""
    run_checks(cfg)
    with quiet_screen():
        runner = build_runner(cfg)
        history = next(hook for hook in runner.hooks if isinstance(hook, HistoryHook))
        runner.train()
        last = history.records[-1] if history.records else {}
        metrics = last.get('metrics')
        if metrics is None or last['epoch'] != runner.epoch or not predictions_of(cfg).is_file():
            # Interrupted between the last epoch and the end of its evaluation.
            metrics = runner.val()
    return metrics, history.records, str(next(runner.model.parameters()).device)


def predictions_of(cfg: Config) -> Path:
    """Return where MMDetection puts the predictions of the last evaluation."""
    return Path(cfg.work_dir) / 'predictions.bbox.json'


def coco_metric(cfg: Config) -> ConfigDict:
    """Return the settings of the validation's metric that gives the figures."""
    given = cfg.val_evaluator
    for metric in given if isinstance(given, list) else [given]:
        if type_name(metric) == 'CocoMetric':
            return metric
    raise UserError('val_evaluator has no CocoMetric, whose figures the report is made of: add one')


def write_report(cfg: Config, dataset: DetectionData, history: list[dict[str, Any]]) -> None:
    """Write the curves and the pictures into the work dir."""
    folder, title = Path(cfg.work_dir), f'{Path(cfg.filename).stem}, {dataset.train.count} images'
    write(report.plot_history(history, title), folder / 'curve.png')
    predictions = json.loads(predictions_of(cfg).read_text())
    truth = read_annotations(dataset.val.ann)
    # Those of an earlier run on other data.
    for old in (folder / 'pictures').glob('*.jpg'):
        old.unlink()
    for name, jpeg in report.draw_predictions(truth, predictions, dataset.val.images):
        write(jpeg, folder / 'pictures' / f'{name}.jpg')


def main(argv: list[str] | None = None) -> int:
    """Draw or find the data, train, evaluate and report."""
    args = parse_args(argv)
    started = time.perf_counter()
    cfg = read_config(args.config or (FINETUNE if args.data else DRAWN), args.cfg_options)
    require_loops(cfg, 'training', 'validation', 'test')
    dataset = prepare_data(args)
    print(
        f'{dataset.train.count} training and {dataset.val.count} validation images of '
        f'{len(dataset.classes)} classes: {", ".join(dataset.classes)}',
        flush=True,
    )
    fit_config(cfg, args, dataset)
    metrics, history, device = train(cfg)
    write_report(cfg, dataset, history)
    overall, per_class = report.figures(metrics), report.figures_per_class(metrics, dataset.classes)
    work_dir = Path(cfg.work_dir)
    checkpoint = work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    pretrained, _ = split_init_cfg(cfg.model.backbone.get('init_cfg'))
    seconds = {
        'training': sum(record['seconds'] for record in history),
        'validation': sum(record.get('val_seconds', 0) for record in history),
        'total': time.perf_counter() - started,
    }
    result = {
        'figures': overall,
        'ap_per_class': per_class,
        'checkpoint': str(checkpoint),
        'config': cfg.filename,
        'command': shlex.join(['python', *sys.argv]),
        'pretrained': pretrained[-1]['checkpoint'] if pretrained else None,
        'seed': args.seed,
        'epochs': cfg.train_cfg.max_epochs,
        'batch_size': cfg.train_dataloader.batch_size,
        'train_images': dataset.train.count,
        'val_images': dataset.val.count,
        'train_annotations': str(dataset.train.ann),
        'val_annotations': str(dataset.val.ann),
        'seconds': seconds,
        'images_per_second': sum(r['images'] for r in history) / max(seconds['training'], 1e-9),
        'device': device,
        'platform': platform.platform(),
        'versions': {'python': platform.python_version(), **{n: _version(n) for n in PACKAGES}},
        'history': history,
    }
    write_json(result, work_dir / 'result.json')
    print(f'\n{report.table(overall, per_class)}\n')
    print(f'trained {cfg.train_cfg.max_epochs} epochs in {seconds["training"]:.0f} s on {device}')
    print(f'checkpoint  {checkpoint}')
    for what, name in (('figures', 'result.json'), ('curves', 'curve.png'), ('pictures',) * 2):
        print(f'{what:<11} {work_dir / name}')
    return 0


def _version(name: str) -> str:
    """Version of a package, which a distribution of another name may have brought."""
    return getattr(import_module(name), '__version__', None) or version(name)


if __name__ == '__main__':
    cli.run(main)
