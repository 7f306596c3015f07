"""From a config to a mmengine runner."""

import os
import sys

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmshuffle.checks.dataset_config import type_name
from mmshuffle.errors import UserError, one_line

DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def build_runner(cfg: Config) -> Runner:
    """Build the runner, on the CPU with gloo where there is no GPU.

    mmengine assumes a GPU in distributed runs; the two settings that it would get wrong without one
    are made here. Plain and atomic checkpoints are not left to the config: without them a run could
    not be resumed.

    Raises:
        UserError: The model's arguments are wrong; the message names the argument.
    """
    setup_cache_size_limit_of_dynamo()
    if cfg.launcher == 'pytorch':
        if 'RANK' not in os.environ:
            raise UserError('--launcher pytorch needs torchrun (see tools/dist_train.sh)')
        if not torch.cuda.is_available():
            _prepare_gloo(cfg)
    _complete_hooks(cfg)
    _replace_amp(cfg)
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except ValueError as error:
        raise UserError(one_line(error)) from None


def has_amp() -> bool:
    """Whether there is a device on which mmengine trains in mixed precision."""
    return get_device() not in ('cpu', 'mps')


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
    """Add hooks and atomic checkpoints to a config that does not inherit this project's runtime."""
    hooks = list(cfg.get('custom_hooks') or [])
    names = {getattr(hook['type'], '__name__', hook['type']) for hook in hooks}
    for name in ('PlainCheckpointHook', 'ReproducibleResumeHook', 'SharedStatisticsHook'):
        if name not in names:
            hooks.append(dict(type=name))
    cfg.custom_hooks = hooks
    # None takes one of mmengine's own away, and is an error for any other.
    defaults = {
        name: hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
        if hook is not None or name in DEFAULT_HOOKS
    }
    checkpoint = defaults.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))
    if checkpoint is not None:
        elsewhere = '://' in str(checkpoint.get('out_dir') or '')
        if not (elsewhere or checkpoint.get('backend_args') or checkpoint.get('file_client_args')):
            defaults['checkpoint'] = {**checkpoint, 'backend_args': dict(backend='atomic')}
    cfg.default_hooks = defaults


def _replace_amp(cfg: Config) -> None:
    """Train in float32 where mixed precision is not to be had: mmcv's operators on the CPU."""
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, dict) and type_name(wrapper) == 'AmpOptimWrapper' and not has_amp():
        print(
            'warning: optim_wrapper: AmpOptimWrapper needs a GPU, and PyTorch sees none here: '
            'training in float32',
            file=sys.stderr,
        )
        kept = {k: v for k, v in wrapper.items() if k not in ('loss_scale', 'dtype', 'use_fsdp')}
        cfg.optim_wrapper = {**kept, 'type': 'OptimWrapper'}
