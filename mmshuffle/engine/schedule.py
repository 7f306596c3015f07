"""Whether a checkpoint's schedule is the config's.

mmengine restores schedulers and optimizer with all their settings: on resuming, a learning rate,
milestones or a length of training that were changed in the config have no effect, without a word.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.optim import Optimizer

from mmshuffle.errors import UserError

from .checkpoint import to_plain

# Attributes that change while a scheduler steps; base_values are the optimizer's.
PROGRESS = {
    'last_step', '_global_step', '_last_value', 'verbose', 'base_values',
    'best', 'num_bad_epochs', 'cooldown_counter',
}  # fmt: skip
# Settings of an optimizer that say how it computes, not what.
IMPLEMENTATION = {'foreach', 'fused', 'capturable', 'differentiable', 'decoupled_weight_decay'}


def check_schedule(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Compare schedule and optimizer of a checkpoint with those of the run that resumes it.

    Args:
        runner: With optimizer and schedulers built, and nothing restored.

    Raises:
        UserError: Settings of the config would have no effect. With ``allow_changed_schedule =
            True`` in the config that is a warning.
    """
    path = runner._load_from
    fresh = f'start from the weights: leave out --resume and give --cfg-options load_from={path}'
    try:
        ignored, changed = differences(runner, checkpoint)
    except UserError as error:
        raise UserError(
            f'{path} cannot be resumed: {error}; give the config that it was trained with, or '
            f'{fresh}'
        ) from None
    for message in changed:
        print_log(message, logger='current', level=logging.WARNING)
    if not ignored:
        return
    report = (
        f'{path} has another schedule than the config, and it would go on: {"; ".join(ignored)}'
    )
    if runner.cfg.get('allow_changed_schedule', False):
        print_log(report, logger='current', level=logging.WARNING)
        return
    raise UserError(
        f'{report}. To go on with it, give the old values, or allow_changed_schedule=True with '
        f'--cfg-options; for the new one, {fresh}'
    )


def differences(runner: Runner, checkpoint: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What of the config would have no effect, and what else differs, a line each."""
    new = _by_name(runner.param_schedulers)
    old = _by_name(checkpoint.get('param_schedulers'))
    every = [scheduler for schedulers in new.values() for scheduler in schedulers]
    limits = checkpoint['message_hub'].get('runtime_info', {})
    wrapper, saved = runner.optim_wrapper, checkpoint['optimizer']
    ignored, changed = [], []
    for name, part in wrapper.items() if isinstance(wrapper, OptimWrapperDict) else [('', wrapper)]:
        state = saved.get(name, {}) if name else saved
        ignored += _optimizer(state, part.optimizer, f'optimizer {name}'.strip())
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    epochs, iterations = limits.get('max_epochs'), limits.get('max_iters')
    now = then = len(runner.train_dataloader) if by_epoch else 0
    if by_epoch and epochs and iterations:
        then = iterations // epochs
    if then != now:
        done = checkpoint['meta']['iter']
        counting = any(
            not state['by_epoch'] and state['end'] > done for part in old.values() for state in part
        )
        (ignored if counting else changed).append(
            f'an epoch had {then} iterations, now {now} (another batch size, number of processes '
            'or data set)'
        )
    for name, schedulers in new.items():
        where = f'param_scheduler.{name}' if name else 'param_scheduler'
        saved = old.get(name, [])
        if len(saved) != len(schedulers):
            ignored.append(f'{where} had {len(saved)} entries, now {len(schedulers)}')
            continue
        for index, (before, scheduler) in enumerate(zip(saved, schedulers, strict=True)):
            # Those that count iterations follow from the length of an epoch.
            if then == now or scheduler.by_epoch:
                ignored += _scheduler(before, scheduler, f'{where}[{index}]')
    key = 'max_epochs' if by_epoch else 'max_iters'
    before, after = limits.get(key), getattr(runner, key)
    if isinstance(before, int) and before != after and every:
        message = f'train_cfg.{key} was {before}, now {after}'
        iterations = before * now if by_epoch else before
        if any(s.end == (before if s.by_epoch else iterations) for s in every):
            ignored.insert(0, f'{message}, and the schedule ends with the former')
        else:
            (ignored if ignored else changed).insert(0, message)
    return ignored, changed


def _by_name(schedulers: Any) -> dict[str, list]:
    """Schedulers, or their states, by the name of their optimizer; '' where there is only one."""
    if isinstance(schedulers, Mapping):
        return {name: list(part) for name, part in schedulers.items()}
    return {'': list(schedulers or [])}


def _scheduler(before: Mapping[str, Any], scheduler: _ParamScheduler, where: str) -> Iterator[str]:
    after = to_plain(scheduler.state_dict(), where, [])
    before = to_plain(before, where, [])
    name = type(scheduler).__name__
    if before.keys() - PROGRESS != after.keys() - PROGRESS:
        yield f'{where} was another one than {name}'
        return
    for key in sorted(after.keys() - PROGRESS):
        if not _same(before[key], after[key]):
            yield f'{where} ({name}) {key} was {_text(before[key])}, now {_text(after[key])}'


def _optimizer(saved: Mapping[str, Any], optimizer: Optimizer, where: str) -> Iterator[str]:
    groups = saved.get('param_groups', [])
    sizes = [[len(group['params']) for group in part] for part in (groups, optimizer.param_groups)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f'{where} had {sum(sizes[0])} tensors in {len(sizes[0])} groups, now {sum(sizes[1])} '
            f'in {len(sizes[1])} (paramwise_cfg, or frozen parts)'
        )
    found: dict[str, tuple[Any, Any]] = {}
    for before, after in zip(groups, optimizer.param_groups, strict=True):
        if after.keys() - before.keys() - IMPLEMENTATION:
            raise UserError(f'{where} was another one than {type(optimizer).__name__}')
        for key in sorted(before.keys() & after.keys() - IMPLEMENTATION - {'params'}):
            # What a scheduler changes has its first value beside it.
            if f'initial_{key}' not in after and not _same(before[key], after[key]):
                found.setdefault(key.removeprefix('initial_'), (before[key], after[key]))
    for key, (before, after) in found.items():
        yield f'{where} {key} was {_text(before)}, now {_text(after)}'


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9)
    return bool(a == b)


def _text(value: Any) -> str:
    # Milestones are a mapping, with how often each occurs.
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return str(list(value))
    return f'{value:g}' if isinstance(value, float) else str(value)
