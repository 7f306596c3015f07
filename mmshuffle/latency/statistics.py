"""Figures of the times of a network: percentiles, an interval of the median, drift, a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
TIMES = ('min', 'p10', 'median', 'p90', 'p99', 'mean', 'std', 'interval')


@dataclass(frozen=True)
class Summary:
    """Figures of one network, in milliseconds unless said otherwise.

    Attributes:
        count: Number of runs.
        sessions: Number of sessions.
        interval: Bounds between which the median lies with 95 % confidence.
        drift: Median of the last third of a session over that of the first, minus 1; that of the
            session where it is largest, up or down.
        spread: Largest median of a session over the smallest, minus 1.
        reasons: Why the figures are not stable; empty where they are.
    """

    count: int
    sessions: int
    min: float
    p10: float
    median: float
    p90: float
    p99: float
    mean: float
    std: float
    interval: tuple[float, float]
    drift: float
    spread: float
    reasons: tuple[str, ...] = ()

    @property
    def stable(self) -> bool:
        """The verdict."""
        return not self.reasons

    def as_dict(self, emulated: bool = False) -> dict[str, Any]:
        """Plain data, for JSON.

        Args:
            emulated: Name the times so that no reader can take them for those of a device.
        """
        prefix = 'emulated_' if emulated else ''
        times = {f'{prefix}{name}_ms': getattr(self, name) for name in TIMES}
        others = {name: value for name, value in vars(self).items() if name not in TIMES}
        verdict = 'stable' if self.stable else 'unstable'
        return {**others, **times, 'verdict': verdict, 'reasons': list(self.reasons)}

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> 'Summary':
        """Take the figures of an entry of ``results``, emulated or not."""
        prefix = 'emulated_' if 'emulated_median_ms' in entry else ''
        times = {name: entry[f'{prefix}{name}_ms'] for name in TIMES}
        others = {name: entry[name] for name in ('count', 'sessions', 'drift', 'spread')}
        return cls(reasons=tuple(entry['reasons']), **others, **times)


def summarise(sessions: Sequence[Sequence[float]], notes: Sequence[str] = ()) -> Summary:
    """Summarise the times of a network.

    Args:
        sessions: Milliseconds of the runs of each session, at least one, in their order.
        notes: What else speaks against the figures, such as throttling.
    """
    parts = [np.asarray(times, float) for times in sessions if len(times)]
    times = np.concatenate(parts)
    p10, median, p90, p99 = map(float, np.percentile(times, (10, 50, 90, 99)))
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
    return Summary(
        count=len(times),
        sessions=len(parts),
        min=float(times.min()),
        p10=p10,
        median=median,
        p90=p90,
        p99=p99,
        mean=float(times.mean()),
        std=float(times.std()),
        interval=interval,
        drift=drift,
        spread=spread,
        reasons=(*(text for holds, text in reasons if holds), *notes),
    )


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


def ranks(summaries: Mapping[str, Summary]) -> dict[str, tuple[int, int] | None]:
    """Rank networks, from the fastest.

    Two are told apart only where both are stable and their intervals do not overlap.

    Returns:
        Best and worst rank that each may have; None for those that are not stable.
    """
    stable = {name: s for name, s in summaries.items() if s.stable}
    found: dict[str, tuple[int, int] | None] = dict.fromkeys(summaries)
    for name, mine in stable.items():
        faster = sum(s.interval[1] < mine.interval[0] for s in stable.values())
        slower = sum(s.interval[0] > mine.interval[1] for s in stable.values())
        found[name] = (1 + faster, len(summaries) - slower)
    return found
