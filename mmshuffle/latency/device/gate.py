"""The correctness gate: outputs on the device against those of PyTorch on the other machine.

The fixed input of every network is made alike here and there, not sent: an image of 720x1280 would
be 11 MB.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A prime, so that rows, channels and tiles never have a common period.
TILE = 9973


def make_input(count: int) -> array:
    """Make ``count`` float32 values from -1 up to 1, spread evenly and without visible order.

    The values are whole multiples of 2^-15, so they are the same on every machine.
    """
    tile = array('f')
    state = 1
    for _ in range(min(count, TILE)):
        state = (1103515245 * state + 12345) & 0x7FFFFFFF  # the C standard's example of rand()
        tile.append((state >> 15) / 2**15 - 1)
    values = tile * (count // TILE + 1)
    return values[:count]


def read_floats(path: Path) -> array:
    """Read little-endian float32 values."""
    values = array('f')
    values.frombytes(path.read_bytes())
    if sys.byteorder == 'big':
        values.byteswap()
    return values


def compare(actual: Sequence[array], expected: Sequence[array], tolerance: float) -> dict[str, Any]:
    """Compare the values of each output.

    Returns:
        ``passed``, ``error`` (the largest difference as a share of the largest expected value of
        the same output; None where it is no finite number), ``tolerance``, the largest that is
        allowed, and ``reason`` where they differ.
    """
    found = dict(passed=False, error=None, tolerance=tolerance)
    sizes = [len(values) for values in actual], [len(values) for values in expected]
    if sizes[0] != sizes[1]:
        return dict(found, reason=f'outputs have {sizes[0]} values instead of {sizes[1]}')
    worst = 0.0
    for mine, theirs in zip(actual, expected):
        # Only this order of the operands lets a NaN through to the comparison below.
        error = max(abs(a - b) if a == a else math.inf for a, b in zip(mine, theirs))
        worst = max(worst, error / max(map(abs, theirs)))
    if not math.isfinite(worst):
        return dict(found, reason='outputs are not finite numbers')
    found['error'] = worst
    if worst > tolerance:
        return dict(found, reason=f'outputs differ by {worst:.2g} of the largest one')
    return dict(found, passed=True)
