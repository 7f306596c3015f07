"""Hooks that make a training run safe to stop, to resume and to load."""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmshuffle.errors import UserError, one_line
from mmshuffle.weights.families import hints, recognise
from mmshuffle.weights.family import NOTE, check_settings, noted_settings, settings_of
from mmshuffle.weights.loader import check_finite, compare_state
from mmshuffle.weights.unpickler import Unread

from .checkpoint import from_plain, to_plain
from .resume import progress
from .schedule import check_schedule

# Fewer matching tensors than this share, and `load_from` is a mistake rather than fine-tuning.
MIN_MATCHED = 0.5


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Saves checkpoints as plain data and refuses to load one of another network.

    mmengine's own checkpoints hold objects that torch >= 2.6 does not read with ``weights_only``.
    Plain ones need no exception from that rule. ``Runner.resume`` runs a config string found under
    ``meta.config`` of a checkpoint as Python: it is removed before the runner sees it.

    Testing and resuming require every tensor of the model, and resuming the same schedule, see
    :mod:`mmshuffle.engine.schedule`. ``load_from`` in training, the start of fine-tuning, reports
    what does not fit, and fails when more than half of the model does not.

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
        try:
            self._prepare(runner, checkpoint)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Any part may be missing, or be something else than mmengine writes.
            raise UserError(
                f'{runner._load_from or "the checkpoint"} has not the form of a checkpoint '
                f'({type(error).__name__}: {one_line(error)}); give another one'
            ) from error

    def _prepare(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            progress(checkpoint, runner._load_from or 'the checkpoint')
        meta = checkpoint.get('meta')
        check_settings(unwrapped_model(runner), noted_settings(meta))
        if isinstance(meta, dict):
            meta.pop('config', None)
        hub = checkpoint.get('message_hub')
        if isinstance(hub, dict):
            scalars = hub.get('log_scalars', {})
            hub['log_scalars'] = {key: from_plain(value) for key, value in scalars.items()}
            infos = hub.get('runtime_info', {})
            hub['runtime_info'] = {k: v for k, v in infos.items() if not isinstance(v, Unread)}
        self._convert(runner, checkpoint)
        training = isinstance(runner._train_loop, BaseLoop)
        self._check(runner, checkpoint, fine_tuning=training and not runner._resume)
        if runner._resume:
            check_schedule(runner, checkpoint)
            # Without functions of mmengine's own checkpoints, which its schedulers make themselves.
            if 'param_schedulers' in checkpoint:
                schedulers = checkpoint['param_schedulers']
                checkpoint['param_schedulers'] = to_plain(schedulers, 'param_schedulers', [])

    @staticmethod
    def _convert(runner: Runner, checkpoint: dict) -> None:
        given = checkpoint.get('state_dict', checkpoint)
        family, state = recognise(unwrapped_model(runner), given)
        if family is None:
            if 'state_dict' in checkpoint and state.keys() != given.keys():
                checkpoint['state_dict'] = state  # without what stood in front of the names
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
        report = compare_state(model, state, runner._load_from or 'the checkpoint')
        check_finite({name: state[name] for name in report.matched}, 'the checkpoint')
        absent = len(report.missing) + len(report.misshapen)
        if not absent:
            return
        if fine_tuning and len(report.matched) >= MIN_MATCHED * (len(report.matched) + absent):
            print_log(f'load_from: {report}', logger='current', level=logging.WARNING)
            return
        raise UserError(
            f'the checkpoint is of another network than the config: {report}; give the config that '
            'it was trained with, or another checkpoint'
        )


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model of a runner, without wrappers of a distributed run or of test-time augmentation."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
