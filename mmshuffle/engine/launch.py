"""From a config file and command-line options to a mmengine runner."""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from mmshuffle.checks.classifier import check_classifier, is_classifier_config
from mmshuffle.checks.dataset import is_local
from mmshuffle.checks.detector import LOADERS, check_config, raise_on
from mmshuffle.checks.problem import Problem
from mmshuffle.errors import UserError, build_failure
from mmshuffle.weights import read_checkpoint

from .checkpoint import find_resumable, read_tensors_only
from .cli import add_config_options
from .files import write_json
from .memory_format import FORMATS


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
        choices=list(FORMATS),
        help='memory layout of the model (default: contiguous, which is NCHW)',
    )
    parser.add_argument(
        '--no-check', action='store_true', help='start without checking the config and the data'
    )
    # torch.distributed.launch passes --local-rank; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and apply overrides.

    Raises:
        UserError: The file does not exist or cannot be read as a config.
    """
    require_file(path, 'config')
    try:
        cfg = Config.fromfile(path)
        for name in options or {}:
            _warn_of_slip(cfg, name)
        if options:
            cfg.merge_from_dict(options)
    except Exception as error:  # a config is a program of the user's
        reason = ' '.join(str(error).split())
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {reason}') from None
    return cfg


def require_file(path: str, what: str) -> None:
    """Refuse a path that is no file.

    Raises:
        UserError: It does not exist, or is a folder.
    """
    if Path(path).is_dir():
        raise UserError(f'{what} {path} is a folder; give the path of a file')
    if not Path(path).is_file():
        raise UserError(f'{what} {path} does not exist; give the path of a file')


def _warn_of_slip(cfg: Config, name: str) -> None:
    """Say when an override makes a new key that is nearly one of the config's."""
    node: Any = cfg
    for key in name.split('.'):
        if not isinstance(node, (Config, dict)):
            return
        if key not in node:
            close = difflib.get_close_matches(key, list(node.keys()), n=1, cutoff=0.75)
            if close:
                print(f'warning: {name}: {key} is new; meant {close[0]}?', file=sys.stderr)
            return
        node = node[key]


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
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
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


def build_runner(cfg: Config) -> Runner:
    """Build the runner, on the CPU with gloo where there is no GPU.

    mmengine assumes a GPU in distributed runs; the two settings that it would get wrong without one
    are made here. Plain and atomic checkpoints are not left to the config: without them a run could
    not be resumed.

    Raises:
        UserError: The model's arguments are wrong; the message names the argument.
    """
    setup_cache_size_limit_of_dynamo()
    read_tensors_only()
    if cfg.launcher == 'pytorch':
        if 'RANK' not in os.environ:
            raise UserError('--launcher pytorch needs torchrun (see tools/dist_train.sh)')
        if not torch.cuda.is_available():
            _prepare_gloo(cfg)
    _complete_hooks(cfg)
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except ValueError as error:
        raise UserError(build_failure(error)) from None


def _prepare_gloo(cfg: Config) -> None:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    # mmengine's defaults, but for the device.
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        device_ids=None,
    )
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {})}


def _complete_hooks(cfg: Config) -> None:
    """Add plain, atomic checkpoints to a config that does not inherit this project's runtime."""
    hooks = list(cfg.get('custom_hooks') or [])
    names = {getattr(hook['type'], '__name__', hook['type']) for hook in hooks}
    for name in ('PlainCheckpointHook', 'ReproducibleResumeHook'):
        if name not in names:
            hooks.append(dict(type=name))
    cfg.custom_hooks = hooks
    cfg.setdefault('default_hooks', {})
    if cfg.default_hooks.get('checkpoint') is None:
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    checkpoint = cfg.default_hooks.checkpoint
    elsewhere = '://' in str(checkpoint.get('out_dir') or '')
    if (
        not elsewhere
        and not checkpoint.get('backend_args')
        and not checkpoint.get('file_client_args')
    ):
        checkpoint.backend_args = dict(backend='atomic')


def register_config_imports(cfg: Config) -> None:
    """Make the modules known that a config names: MMDetection's and those of ``custom_imports``."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    for name in cfg.get('custom_imports', {}).get('imports', ()):
        importlib.import_module(name)


def find_problems(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check a config of a detector or of a classifier, with the modules imported that it names.

    Args:
        cfg: The config.
        loaders: Which data loaders to check.
    """
    register_config_imports(cfg)
    check = check_classifier if is_classifier_config(cfg) else check_config
    return check(cfg, loaders)


def run_checks(cfg: Config, training: bool = True) -> None:
    """Check the config before a run; the first process does so for all.

    Raises:
        UserError: The run would fail, or would train on nothing; a line for each reason.
    """
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) != 0:
        return
    problems = find_problems(cfg, LOADERS if training else ('test_dataloader',))
    for problem in problems:
        if not problem.fatal:
            print(f'warning: {problem}', file=sys.stderr)
    raise_on(problems)


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
    content = dict(config=args.config, checkpoint=args.checkpoint, metrics=metrics)
    if is_main_process():
        write_json(content, path)
        print(f'figures written to {path}')
    return path
