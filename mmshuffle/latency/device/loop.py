"""The measuring loop."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

# As text, because Python 3.8 cannot evaluate them.
Call = 'Callable[[], Any]'
Clock = 'Callable[[], float]'


def warm_up(call: Call, loops: int, seconds: float, clock: Clock = time.perf_counter) -> None:
    """Run at least ``loops`` times and for at least ``seconds``."""
    end = clock() + seconds
    done = 0
    while done < loops or clock() < end:
        call()
        done += 1


def time_block(call: Call, loops: int, seconds: float, clock: Clock = time.perf_counter) -> array:
    """Time single runs, back to back.

    One run before them is not timed: it brings the network back into the caches that another
    network's block has filled.

    Args:
        call: What is timed.
        loops: At least so many runs.
        seconds: And for at least so long.
        clock: Clock in seconds.

    Returns:
        Milliseconds of each run.
    """
    call()
    times = array('d')
    end = clock() + seconds
    while True:
        start = clock()
        call()
        stop = clock()
        times.append((stop - start) * 1e3)
        if len(times) >= loops and stop >= end:
            return times


def measure(
    calls: Sequence[Call],
    protocol: dict[str, Any],
    report: Callable[[int, array, float, float], None],
    clock: Clock = time.perf_counter,
) -> None:
    """Time several networks in turn, block by block, so that what drifts hits all alike.

    Args:
        calls: The networks.
        protocol: ``loops`` and ``seconds`` that every network gets at least, ``block_loops`` and
            ``block_seconds`` of a block, ``warmup_loops`` and ``warmup_seconds``.
        report: Gets the number of a network, the milliseconds of a block, the processor's time in
            it as a share of its length (1 for one thread that was never kept waiting), and the
            share of the network's work that is done.
        clock: Clock in seconds.
    """
    for call in calls:
        warm_up(call, protocol['warmup_loops'], protocol['warmup_seconds'], clock)
    counts = [0] * len(calls)
    seconds = [0.0] * len(calls)
    left = list(range(len(calls)))
    while left:
        for number in left:
            start, worked = clock(), time.process_time()
            times = time_block(
                calls[number],
                min(protocol['block_loops'], protocol['loops'] - counts[number]),
                protocol['block_seconds'],
                clock,
            )
            share = (time.process_time() - worked) / (clock() - start)
            counts[number] += len(times)
            seconds[number] += sum(times) / 1e3
            done = min(
                counts[number] / protocol['loops'],
                seconds[number] / protocol['seconds'] if protocol['seconds'] else 1.0,
                1.0,
            )
            report(number, times, share, done)
        left = [
            n for n in left if counts[n] < protocol['loops'] or seconds[n] < protocol['seconds']
        ]
