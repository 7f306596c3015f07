"""Comparing the speed of forms of one network on a machine that does other things, too."""

import time
from collections.abc import Callable, Mapping

import numpy as np

Run = Callable[[], object]


def time_in_turns(runs: Mapping[str, Run], seconds: float, burst: int = 3) -> dict[str, np.ndarray]:
    """Time every run in every round.

    In a round each gets one untimed call, which brings its weights back into the caches, and
    ``burst`` timed ones, of which the shortest counts: an interruption makes a call longer, nothing
    makes it shorter. The order turns from round to round.

    Args:
        runs: What to time.
        seconds: How long, in all; at least five rounds.
        burst: Timed calls.

    Returns:
        Milliseconds of every round by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    order, end = list(runs), time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[order[0]]) < 5:
        for name in order:
            run = runs[name]
            run()
            calls = []
            for _ in range(burst):
                start = time.perf_counter()
                run()
                calls.append(time.perf_counter() - start)
            times[name].append(min(calls) * 1e3)
        order = order[1:] + order[:1]
    return {name: np.array(values) for name, values in times.items()}


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float]:
    """Median of the ratios within the rounds, and its 95 % interval by bootstrap."""
    ratios = above / below
    picks = np.random.default_rng(0).integers(0, len(ratios), (1000, len(ratios)))
    low, high = np.quantile(np.median(ratios[picks], 1), (0.025, 0.975))
    return dict(median=float(np.median(ratios)), low=float(low), high=float(high))


def fastest(times: Mapping[str, np.ndarray]) -> str:
    """Name the run that is usually the fastest within a round."""
    rounds = np.stack(list(times.values()))
    relative = np.median(rounds / rounds.mean(0), 1)
    return list(times)[int(relative.argmin())]
