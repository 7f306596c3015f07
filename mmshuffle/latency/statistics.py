"""Figures of the times of a network: percentiles, an interval of the median, drift, a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
# Beyond these shares a figure is not called stable.
MAX_DRIFT = 0.05
MAX_SPREAD = 0.05
MAX_INTERVAL = 0.05
MAX_TAIL = 0.25
# With fewer, the median may lie outside of all runs with more than 5 % probability: 2 / 2^n.
MIN_RUNS = 6
Figures = Mapping[str, Any]


def summarise(sessions: Sequence[Sequence[float]], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Summarise the times of a network, as ``results`` of ``schema.json`` has them.

    Args:
        sessions: Milliseconds of the runs of each session, at least one, in their order.
        notes: What else speaks against the figures, such as throttling.
    """
    parts = [np.asarray(times, float) for times in sessions if len(times)]
    times = np.concatenate(parts)
    p10, median, p90, p99 = np.percentile(times, (10, 50, 90, 99))
    low, high = interval = median_interval(parts)
    drift = max(map(_drift, parts), key=abs)
    medians = [float(np.median(part)) for part in parts]
    spread = max(medians) / min(medians) - 1
    width = (high - low) / median
    reasons = [
        (len(times) < MIN_RUNS, f'only {len(times)} runs'),
        (
            p90 > (1 + MAX_TAIL) * median,
            f'one run in ten takes {p90 / median - 1:.0%} longer than the median',
        ),
        (abs(drift) > MAX_DRIFT, f'drifts by {drift:+.1%} within a session'),
        (spread > MAX_SPREAD, f'sessions differ by {spread:.1%}'),
        (width > MAX_INTERVAL, f'the interval of the median is {width:.1%} wide'),
    ]
    figures = dict(min=times.min(), p10=p10, median=median, p90=p90, p99=p99)
    figures |= dict(mean=times.mean(), std=times.std())
    found = [*(text for holds, text in reasons if holds), *notes]
    return dict(
        count=len(times),
        sessions=len(parts),
        **{f'{name}_ms': float(figure) for name, figure in figures.items()},
        interval_ms=interval,
        drift=drift,
        spread=spread,
        verdict='unstable' if found else 'stable',
        reasons=found,
    )


def is_stable(figures: Figures) -> bool:
    """The verdict."""
    return not figures['reasons']


def median_interval(sessions: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the median over all runs.

    Sessions are drawn first and then runs within each: runs of one session share its memory
    addresses and temperature, so that they say less about the next session than their number
    suggests.

    Args:
        sessions: Milliseconds of the runs of each session.
        seed: Of the random draws.
    """
    random = np.random.default_rng(seed)
    medians = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = random.integers(len(sessions), size=len(sessions))
        medians[i] = np.median(
            np.concatenate([random.choice(sessions[s], len(sessions[s])) for s in drawn])
        )
    low, high = np.quantile(medians, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _drift(times: np.ndarray) -> float:
    third = len(times) // 3
    if third == 0:
        return 0.0
    return float(np.median(times[-third:]) / np.median(times[:third]) - 1)


def ranks(networks: Mapping[str, Figures]) -> dict[str, tuple[int, int] | None]:
    """Rank networks, from the fastest.

    Two are told apart only where both are stable and their intervals do not overlap.

    Returns:
        Best and worst rank that each may have; None for those that are not stable.
    """
    stable = {name: f['interval_ms'] for name, f in networks.items() if is_stable(f)}
    found: dict[str, tuple[int, int] | None] = dict.fromkeys(networks)
    for name, (low, high) in stable.items():
        faster = sum(other[1] < low for other in stable.values())
        slower = sum(other[0] > high for other in stable.values())
        found[name] = (1 + faster, len(networks) - slower)
    return found
