"""Hooks that make a training run safe to stop, to resume and to load."""

import logging
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmshuffle.errors import UserError
from mmshuffle.weights.families import hints, recognise
from mmshuffle.weights.settings import NOTE, check_settings, noted_settings, settings_of

from .checkpoint import from_plain, to_plain
from .memory_format import set_memory_format

# Fewer matching tensors than this share, and `load_from` is a mistake rather than fine-tuning.
MIN_MATCHED = 0.5


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Saves checkpoints as plain data and refuses to load one of another network.

    mmengine's own checkpoints hold objects that torch >= 2.6 does not read with ``weights_only``.
    Plain ones need no exception from that rule. ``Runner.resume`` runs a config string found under
    ``meta.config`` of a checkpoint as Python: it is removed before the runner sees it.

    Testing and resuming require every tensor of the model. ``load_from`` in training, the start of
    fine-tuning, reports what does not fit, and fails when more than half of the model does not.

    A file of a published family is converted: so an image classifier is tested with the weights of
    another project, see :mod:`mmshuffle.weights`.
    """

    # Last, so that what other hooks put into a checkpoint is made plain too.
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the backbone's settings, and make the checkpoint plain."""
        settings = settings_of(unwrapped_model(runner))
        if settings:
            checkpoint['meta'][NOTE] = settings
        dropped: list[str] = []
        for key, value in checkpoint.items():
            strict = key in ('state_dict', 'optimizer')
            checkpoint[key] = to_plain(value, key, None if strict else dropped)
        if dropped:
            print_log(
                f'not saved, because it is no data: {", ".join(dropped)}',
                logger='current',
                level=logging.WARNING,
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that the checkpoint is of this model, and rebuild the log histories."""
        if not isinstance(checkpoint, Mapping):
            raise UserError('the checkpoint has no names of tensors; give one of a model')
        if runner._resume and not {'meta', 'message_hub'} <= checkpoint.keys():
            raise UserError(
                'the checkpoint holds weights only, which cannot be resumed; start from it with '
                '--cfg-options load_from=PATH'
            )
        meta = checkpoint.get('meta')
        check_settings(unwrapped_model(runner), noted_settings(meta))
        if isinstance(meta, dict):
            meta.pop('config', None)
        hub = checkpoint.get('message_hub')
        if isinstance(hub, dict):
            scalars = hub.get('log_scalars', {})
            hub['log_scalars'] = {key: from_plain(value) for key, value in scalars.items()}
        self._convert(runner, checkpoint)
        training = isinstance(runner._train_loop, BaseLoop)
        self._check(runner, checkpoint, fine_tuning=training and not runner._resume)

    @staticmethod
    def _convert(runner: Runner, checkpoint: dict) -> None:
        family, state = recognise(unwrapped_model(runner), checkpoint.get('state_dict', checkpoint))
        if family is None:
            return
        checkpoint.clear()
        checkpoint['state_dict'] = state
        trained = f'{family.name}, trained on {family.normalisation}'
        settings = list(hints(unwrapped_model(runner), family))
        print_log(
            '; '.join([f'the checkpoint is of {trained}', *settings]),
            logger='current',
            level=logging.WARNING if settings else logging.INFO,
        )

    @staticmethod
    def _check(runner: Runner, checkpoint: Mapping[str, Any], fine_tuning: bool) -> None:
        model = unwrapped_model(runner)
        state = checkpoint.get('state_dict', checkpoint)
        state = {str(name).removeprefix('module.'): value for name, value in state.items()}
        # Old checkpoints lack BatchNorm's counter, which only a BatchNorm without momentum uses.
        own = {k: v for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
        missing = [name for name in own if name not in state]
        misshapen = [n for n in own if n in state and state[n].shape != own[n].shape]
        matched = len(own) - len(missing) - len(misshapen)
        if not missing and not misshapen:
            return
        examples = ', '.join((missing + misshapen)[:3])
        report = (
            f'{matched} of {len(own)} tensors match, {len(missing)} are missing and '
            f'{len(misshapen)} have another shape (such as {examples})'
        )
        if fine_tuning and matched >= MIN_MATCHED * len(own):
            print_log(f'load_from: {report}', logger='current', level=logging.WARNING)
            return
        raise UserError(
            f'the checkpoint is of another network than the config: {report}; give the config that '
            'it was trained with'
        )


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Stores the state of all random number generators, so that a resumed run goes on bit by bit.

    Every rank has its own state. Validation leaves the generators untouched, so that neither how
    often nor whether one validates changes the training. Exact on the CPU for checkpoints at the
    end of an epoch, with ``num_workers=0`` or with transforms that draw nothing in the workers; a
    checkpoint within an epoch holds no states, and none holds gradients: where they are accumulated
    and an epoch ends between two steps, the resumed run lacks those of its last batches.
    """

    # Before CheckpointHook, which has VERY_LOW.
    priority = 'LOW'

    def __init__(self) -> None:
        self._to_save: list[dict] = []
        self._to_restore: dict | None = None
        self._before_val: dict | None = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Collect the states of all ranks; only the first rank saves."""
        self._to_save = all_gather_object(get_rng_state())

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Drop the states of the last epoch: they are no longer those of the moment."""
        self._to_save = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put them into the checkpoint."""
        checkpoint['rng_states'] = self._to_save

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep this rank's state until training starts: building the runner draws numbers too."""
        states = checkpoint.get('rng_states')
        if not runner._resume or not states:
            return
        if len(states) == get_world_size():
            self._to_restore = states[get_rank()]
        else:
            print_log(
                f'the checkpoint is of {len(states)} processes and this run has '
                f'{get_world_size()}: random numbers will differ',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Restore the state of a resumed run."""
        if self._to_restore is not None:
            set_rng_state(self._to_restore)
            self._to_restore = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Remember the state before validation."""
        self._before_val = get_rng_state()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Go on as if there had been no validation."""
        if self._before_val is not None:
            set_rng_state(self._before_val)
            self._before_val = None


@HOOKS.register_module()
class MemoryFormatHook(Hook):
    """Runs a model in a memory layout, see :func:`mmshuffle.engine.set_memory_format`.

    Args:
        memory_format: ``'contiguous'`` or ``'channels_last'``.
    """

    def __init__(self, memory_format: str = 'channels_last') -> None:
        self.memory_format = memory_format

    def before_run(self, runner: Runner) -> None:
        """Convert the model once, before training or testing."""
        set_memory_format(unwrapped_model(runner), self.memory_format)


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model of a runner, without the wrapper of a distributed run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def get_rng_state() -> dict:
    """State of Python's, numpy's and torch's generators as plain data."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        'python': [version, list(words), gauss],
        'numpy': [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict) -> None:
    """Restore what :func:`get_rng_state` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if torch.cuda.is_available() and len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state['cuda']])
