"""The measuring loop."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def run_for(call: Callable, loops: int, seconds: float, clock: Callable = time.perf_counter) -> Any:
    """Run at least ``loops`` times, back to back, and for at least ``seconds``.

    Returns:
        Milliseconds of each run, as an array.
    """
    times = array('d')
    end = clock() + seconds
    while True:
        start = clock()
        call()
        stop = clock()
        times.append((stop - start) * 1e3)
        if len(times) >= loops and stop >= end:
            return times


def take_turns(
    count: int, protocol: dict[str, Any], block: Callable[[int, int], tuple[Any, int, float]]
) -> Iterator[tuple[int, Any, float]]:
    """Run networks in turn, block by block, so that what drifts hits all alike.

    Every other turn goes backwards: what drifts steadily within a turn cancels out too.

    Args:
        count: Number of networks.
        protocol: ``loops`` and ``seconds`` that every network gets at least, and ``block_loops``.
        block: Maps the number of a network, and of runs, to what was measured, the runs that it
            took, and their seconds.

    Yields:
        The number of a network, what ``block`` measured, and the share of its work that is done.
    """
    counts, seconds, shares = [0] * count, [0.0] * count, [0.0] * count
    left = list(range(count))
    while left:
        for n in left:
            wanted = min(protocol['block_loops'], protocol['loops'] - counts[n])
            measured, runs, length = block(n, wanted)
            counts[n] += runs
            seconds[n] += length
            by_time = seconds[n] / protocol['seconds'] if protocol['seconds'] else 1.0
            shares[n] = min(counts[n] / protocol['loops'], by_time, 1.0)
            yield n, measured, shares[n]
        left = [n for n in reversed(left) if shares[n] < 1]


def measure(
    calls: Sequence[Callable],
    protocol: dict[str, Any],
    report: Callable[[int, array, float, float], None],
    clock: Callable = time.perf_counter,
) -> None:
    """Warm networks up and time them in turn, see :func:`take_turns`.

    ``report`` gets the number of a network, the milliseconds of a block, the processor's time in it
    as a share of its length (1 for one thread that was never kept waiting), and the share of the
    network's work that is done.
    """
    for call in calls:
        run_for(call, protocol['warmup_loops'], protocol['warmup_seconds'], clock)

    def block(number: int, loops: int) -> tuple[Any, int, float]:
        start, worked = clock(), time.process_time()
        calls[number]()  # not timed: back into the caches that another network's block has filled
        times = run_for(calls[number], loops, protocol['block_seconds'], clock)
        share = (time.process_time() - worked) / (clock() - start)
        return (times, share), len(times), sum(times) / 1e3

    for number, (times, share), done in take_turns(len(calls), protocol, block):
        report(number, times, share, done)
