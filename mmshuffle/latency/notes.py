"""What the state of the device says against its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .measure import Measured, describe

# Below this share of a core, one thread was kept waiting.
MIN_SHARE = 0.95
# A frequency that falls by more was taken back by the system.
MAX_SLOWDOWN = 0.05

State = Mapping[str, Any]


def notes_on(
    measured: Measured, states: Sequence[State], cores: Sequence[int] | None = None
) -> list[str]:
    """Reasons not to trust the figures of a case.

    Args:
        measured: The case.
        states: All states of the measurement.
        cores: Cores that it ran on; None where the system chose.
    """
    where = describe(measured.case)
    mine = [state for state in states if all(state[key] == where[key] for key in where)]
    before = [state for state in mine if state['when'] == 'before']
    after = [state for state in mine if state['when'] == 'after']
    notes = [] if measured.gate is not None else ['outputs not checked: the program shows none']
    for first, last in zip(before, after):
        notes += _throttling(first, last) + _slowdown(first, last, cores)
    share = float(np.mean(measured.cpu)) if measured.cpu else 1.0
    if measured.case.setting.threads == 1 and share < MIN_SHARE:
        notes.append(f'other programs took {1 - share:.0%} of its core')
    return list(dict.fromkeys(notes))


def _throttling(before: State, after: State) -> list[str]:
    """Signs of throttling now, or new ones since the state before."""
    found = []
    for name, value in after['throttling'].items():
        earlier = before['throttling'].get(name, 0)
        if 'flags' in name:
            # The lower bits say what is now, the upper ones what has been since the start.
            value = value & 0xF or value & ~earlier
        elif name.endswith(' count'):
            value -= earlier  # counters count from the start
        if value:
            found.append(
                f'throttling: {name} {value:#x}' if 'flags' in name else f'throttling: {name}'
            )
    return found


def _slowdown(before: State, after: State, cores: Sequence[int] | None) -> list[str]:
    """A fastest core that ended slower than it began; the others may have become idle."""
    first, last = (
        max(
            (khz for core, khz in state['khz'].items() if cores is None or int(core) in cores),
            default=0,
        )
        for state in (before, after)
    )
    if last >= (1 - MAX_SLOWDOWN) * first:
        return []
    return [f'the fastest core fell from {first / 1000:.0f} to {last / 1000:.0f} MHz']
