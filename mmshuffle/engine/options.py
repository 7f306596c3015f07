"""The command lines of training and testing, and what they change in a config."""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from mmshuffle.checks import is_classifier_config, is_local
from mmshuffle.errors import UserError
from mmshuffle.weights import read_checkpoint

from .checkpoint import find_resumable
from .cli import add_config_options
from .config import read_config, require_file
from .files import write_json
from .memory_format import MEMORY_FORMATS


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share; they are MMDetection's."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run',
    )
    parser.add_argument(
        '--memory-format',
        choices=list(MEMORY_FORMATS),
        help='memory layout of the model (default: contiguous, which is NCHW)',
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without checking the config and the data'
    )
    # torch.distributed.launch passes --local-rank; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` names and apply what training and testing share.

    Raises:
        UserError: The work dir is a file; see also :func:`read_config`.
    """
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

    Raises:
        UserError: An option does not go with the config, or a checkpoint cannot be resumed from.
    """
    if args.amp:
        if not torch.cuda.is_available():
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
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is None:
        return
    if args.resume == 'auto':
        found = find_resumable(cfg.work_dir)
        if found is None:
            # The first start of a job that is always started with --resume.
            print(f'no checkpoint in {cfg.work_dir}: training starts anew', file=sys.stderr)
            return
    else:
        found = args.resume
        require_file(found, 'checkpoint')
    cfg.resume, cfg.load_from = True, str(found)
    # The order of the data follows from the seed, and the data loader is built before mmengine
    # reads the checkpoint.
    content = read_checkpoint(found)
    seed = content.get('meta', {}).get('seed') if isinstance(content, dict) else None
    if seed is not None:
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}


def _accumulation(cfg: Config, given: str) -> int:
    """Batches whose gradients are added up for one step."""
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if given != 'auto':
        raise UserError(f"--accumulate {given}: give a number of batches, or 'auto'")
    total = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    if total is None:
        raise UserError(
            '--accumulate auto needs auto_scale_lr = dict(base_batch_size=...) in the config'
        )
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


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add MMDetection's options of testing."""
    parser.add_argument('--out', help='write the raw predictions to this .pkl file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a picture is shown')


def apply_test_options(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the checkpoint and the options of :func:`add_test_options` to a config.

    Raises:
        UserError: The checkpoint does not exist, or ``--out`` is no .pkl file.
    """
    if is_local(args.checkpoint):
        require_file(args.checkpoint, 'checkpoint')
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: give a file that ends in .pkl')
    cfg.load_from, cfg.resume = args.checkpoint, False
    if is_classifier_config(cfg):
        if args.show or args.show_dir:
            raise UserError('--show and --show-dir draw boxes, and a classifier has none')
    elif args.show or args.show_dir:
        hook = cfg.default_hooks.setdefault('visualization', dict(type='DetVisualizationHook'))
        hook.update(draw=True, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            hook.test_out_dir = args.show_dir
    if args.out is not None:
        evaluators = cfg.test_evaluator
        evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
        kind = 'DumpResults' if is_classifier_config(cfg) else 'DumpDetResults'
        cfg.test_evaluator = [*evaluators, dict(type=kind, out_file_path=args.out)]


def write_metrics(cfg: Config, args: argparse.Namespace, metrics: dict[str, float]) -> Path:
    """Write the figures of a test, with what they are of, to ``metrics.json`` in the work dir."""
    path = Path(cfg.work_dir) / 'metrics.json'
    content = dict(config=cfg.filename, checkpoint=args.checkpoint, metrics=metrics)
    if is_main_process():
        write_json(content, path)
        print(f'figures written to {path}')
    return path
