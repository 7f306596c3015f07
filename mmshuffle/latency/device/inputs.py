"""The fixed input of every network, made alike on the device and where the results are checked.

Made, not sent: a 720x1280 image would be 11 MB.
"""

from __future__ import annotations

from array import array

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
