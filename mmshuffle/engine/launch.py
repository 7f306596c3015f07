"""From a config to a mmengine runner."""

import os

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmshuffle.errors import UserError, one_line

from .checkpoint import read_tensors_only
from .config import read_config, register_config_imports  # noqa: F401  (until all import config)


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
        raise UserError(one_line(error)) from None


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
