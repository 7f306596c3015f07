"""The command lines of training and testing, and what they change in a config."""

import argparse
import os
import sys
from pathlib import Path

from mmdet.registry import METRICS
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmshuffle.checks import is_classifier_config, is_local
from mmshuffle.checks.dataset_config import unwrapped
from mmshuffle.errors import UserError

from .config import read_config, require_file, require_loops
from .files import write_json
from .launch import has_amp
from .memory_format import MEMORY_FORMATS
from .resume import find_resumable, resume_from

PACKED = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
FLIPS = dict(
    type='TestTimeAug',
    transforms=[
        [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
        [dict(type='PackDetInputs', meta_keys=PACKED)],
    ],
)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share; they are MMDetection's."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    launchers, text = ['none', 'pytorch', 'slurm', 'mpi'], 'what started a distributed run'
    parser.add_argument('--launcher', choices=launchers, default='none', help=text)
    text = 'memory layout of the model (default: contiguous, which is NCHW)'
    parser.add_argument('--memory-format', choices=list(MEMORY_FORMATS), help=text)
    text = 'start without checking the config and the data'
    parser.add_argument('--no-check', action='store_true', help=text)
    # torch.distributed.launch passes --local-rank; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` names and apply what training and testing share."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.memory_format is not None:
        hook = dict(type='MemoryFormatHook', memory_format=args.memory_format)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename).stem)
    if Path(cfg.work_dir).is_file():
        raise UserError(f'work dir {cfg.work_dir} is a file; give a folder')
    return cfg


def apply_training_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply ``--amp``, ``--accumulate``, ``--auto-scale-lr`` and ``--resume`` to a config.

    ``resume = True`` in the config is the same as ``--resume``.
    """
    require_loops(cfg, 'training')
    if args.amp:
        if not has_amp():
            raise UserError('--amp needs a GPU, and PyTorch sees none here: leave it out')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.accumulate is not None:
        if args.auto_scale_lr:
            raise UserError(
                '--accumulate keeps the total batch size and --auto-scale-lr follows it: give one'
            )
        cfg.optim_wrapper.accumulative_counts = _accumulation(cfg, args.accumulate)
    if args.auto_scale_lr:
        _total_batch(cfg, '--auto-scale-lr')
        cfg.auto_scale_lr.enable = True
    found = args.resume
    if found is None and cfg.get('resume'):
        found = cfg.get('load_from') or 'auto'
    if found is None:
        return
    if found != 'auto':
        require_file(found, 'checkpoint')
    elif (found := find_resumable(cfg.work_dir)) is None:
        # The first start of a job that is always started with --resume.
        print(f'no checkpoint in {cfg.work_dir}: training starts anew', file=sys.stderr)
        cfg.resume = False
        return
    resume_from(cfg, found)


def _accumulation(cfg: Config, given: str) -> int:
    """Batches whose gradients are added up for one step."""
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if given != 'auto':
        raise UserError(f"--accumulate {given}: give a number of batches, or 'auto'")
    total = _total_batch(cfg, '--accumulate auto')
    processes = 1
    if cfg.launcher != 'none':
        names = ('WORLD_SIZE', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
        processes = int(next((os.environ[name] for name in names if name in os.environ), 1))
    batch = cfg.train_dataloader.batch_size * processes
    if total % batch:
        raise UserError(
            f'--accumulate: {processes} x {cfg.train_dataloader.batch_size} images a batch do not '
            f'divide the total of {total}: change train_dataloader.batch_size'
        )
    return total // batch


def _total_batch(cfg: Config, option: str) -> int:
    """The batch size that a recipe is for, over all processes."""
    if total := (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        return total
    raise UserError(f'{option} needs auto_scale_lr = dict(base_batch_size=...) in the config')


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add MMDetection's options of testing."""
    parser.add_argument('--out', help='write the raw predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    text = 'test-time augmentation: by default flipped images too'
    parser.add_argument('--tta', action='store_true', help=text)
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a picture is shown')


def apply_test_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the checkpoint and the options of :func:`add_test_options` to a config."""
    require_loops(cfg, 'test')
    if is_local(args.checkpoint):
        require_file(args.checkpoint, 'checkpoint')
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: give a file that ends in .pkl')
    cfg.load_from, cfg.resume = args.checkpoint, False
    if is_classifier_config(cfg):
        if args.show or args.show_dir:
            raise UserError('--show and --show-dir draw boxes, and a classifier has none')
    elif args.show or args.show_dir:
        hooks = cfg.get('default_hooks') or {}
        hook = hooks.get('visualization') or dict(type='DetVisualizationHook')
        hook.update(draw=True, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            hook['test_out_dir'] = args.show_dir
        cfg.default_hooks = {**hooks, 'visualization': hook}


def apply_tta(cfg: Config) -> None:
    """Make a test of a detector augment its images, as MMDetection's ``--tta`` does.

    ``tta_model`` and ``tta_pipeline`` of the config say how; by default each image is also flipped.
    """
    if is_classifier_config(cfg):
        raise UserError('--tta merges boxes, and a classifier has none: leave it out')
    for name in {'tta_model', 'tta_pipeline'} - cfg.keys():
        print(f'the config has no {name}: as in MMDetection, flipping is added', file=sys.stderr)
    merging = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    model = cfg.get('tta_model') or dict(type='DetTTAModel', tta_cfg=merging)
    cfg.model = {**model, 'module': cfg.model}
    for _, dataset in unwrapped(cfg, 'test_dataloader'):
        dataset.pipeline = cfg.get('tta_pipeline') or [*dataset.pipeline[:-1], FLIPS]


def keep_predictions(runner: Runner, path: str) -> None:
    """Make a test write the raw predictions of a runner to a pickle file."""
    kind = 'DumpResults' if is_classifier_config(runner.cfg) else 'DumpDetResults'
    metric = METRICS.build(dict(type=kind, out_file_path=path))
    runner.test_evaluator.metrics.append(metric)


def write_metrics(cfg: Config, args: argparse.Namespace, metrics: dict[str, float]) -> Path:
    """Write the figures of a test, with what they are of, to ``metrics.json`` in the work dir."""
    path = Path(cfg.work_dir) / 'metrics.json'
    content = dict(config=cfg.filename, checkpoint=args.checkpoint, metrics=metrics)
    if is_main_process():
        write_json(content, path)
        print(f'figures written to {path}')
    return path
