"""Figures of the times of a network, ratios of two, and ranks: with intervals and verdicts."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 1000
CONFIDENCE = 0.95
# Beyond these shares a figure is not called stable.
MAX_DRIFT = 0.05
MAX_SPREAD = 0.05
MAX_INTERVAL = 0.05
MAX_TAIL = 0.25
# With fewer, the median may lie outside of all runs with more than 5 % probability: 2 / 2^n.
MIN_RUNS = 6
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
Figures = Mapping[str, Any]


def summarise(
    sessions: Sequence[Sequence[Sequence[float]]], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Summarise the times of a network, as ``results`` of ``schema.json`` has them.

    Args:
        sessions: Milliseconds of the runs of each block of each session, at least one, in their
            order.
        notes: What else speaks against the figures, such as throttling.
    """
    parts = [np.concatenate(blocks) for blocks in sessions]
    times = np.concatenate(parts)
    p10, median, p90, p99 = np.percentile(times, (10, 50, 90, 99))
    low, high = interval = median_interval(parts)
    drift = max(map(_drift, parts), key=abs)
    medians = [float(np.median(part)) for part in parts]
    spread = max(medians) / min(medians) - 1
    width = (high - low) / median
    tail = p90 / median - 1
    reasons = [
        (len(times) < MIN_RUNS, f'only {len(times)} runs'),
        (tail > MAX_TAIL, f'one run in ten takes {tail:.0%} longer than the median'),
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


def median_interval(sessions: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the median over all runs.

    Sessions are drawn first and then runs within each: runs of one session share its memory
    addresses and temperature, so that they say less about the next session than their number
    suggests.
    """
    random = np.random.default_rng(seed)
    medians = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = random.integers(len(sessions), size=len(sessions))
        medians[i] = np.median(
            np.concatenate([random.choice(sessions[s], len(sessions[s])) for s in drawn])
        )
    low, high = np.quantile(medians, TAILS)
    return float(low), float(high)


def _drift(times: np.ndarray) -> float:
    third = len(times) // 3
    if third == 0:
        return 0.0
    return float(np.median(times[-third:]) / np.median(times[:third]) - 1)


def paired_ratio(mine: Figures, other: Figures, seed: int = 0) -> dict[str, Any]:
    """Ratio of two networks that took turns, from blocks of the same turn.

    What slows the device down for longer than a turn cancels out, so that the ratio may be
    reliable where both times are not. It is the geometric mean of the sessions' ratios, each the
    median over its turns. Its interval is a bootstrap over sessions, and turns within them, or
    Student's interval of the sessions' ratios where that is wider: draws from three sessions never
    leave their range, which holds the ratio of all sessions only in 75 % of cases.

    Returns:
        ``value``, ``interval`` (None where there are too few blocks), ``verdict``, ``reasons``.
    """
    if mine is other:
        return dict(value=1.0, interval=[1.0, 1.0], verdict='reliable', reasons=[])
    # Ctrl-C may have left the last block without a partner.
    logs = [
        np.log([np.median(block) / np.median(partner) for block, partner in zip(*blocks)])
        for blocks in zip(mine['samples_ms'], other['samples_ms'])
    ]
    turns = sum(map(len, logs))
    if turns < MIN_RUNS:
        value, interval = mine['median_ms'] / other['median_ms'], None
        reasons = [f'only {turns} turns']
    else:
        low, value, high = map(float, np.exp(_interval(logs, seed)))
        interval, width = [low, high], high / low - 1
        reasons = [f'its interval is {width:.1%} wide'] if width > MAX_INTERVAL else []
    if None in (mine['gate_error'], other['gate_error']):
        reasons.append('outputs not checked')
    verdict = 'unreliable' if reasons else 'reliable'
    return dict(value=value, interval=interval, verdict=verdict, reasons=reasons)


def _interval(sessions: Sequence[np.ndarray], seed: int) -> tuple[float, float, float]:
    """Mean of the medians of sessions, between the bounds of its interval."""
    random, count = np.random.default_rng(seed), len(sessions)
    medians = [
        np.median(turns[random.integers(len(turns), size=(count, RESAMPLES, len(turns)))], axis=2)
        for turns in sessions
    ]
    chosen = random.integers(count, size=(1, count, RESAMPLES))
    low, high = np.quantile(np.take_along_axis(np.array(medians), chosen, 0)[0].mean(0), TAILS)
    found = np.array([np.median(turns) for turns in sessions])
    if count > 1:
        width = stdtrit(count - 1, TAILS[1]) * found.std(ddof=1) / np.sqrt(count)
        low, high = min(low, found.mean() - width), max(high, found.mean() + width)
    return low, found.mean(), high


def ranks(networks: Mapping[str, Figures]) -> dict[str, tuple[int, int] | None]:
    """Rank networks, from the fastest.

    Two are told apart where the interval of their :func:`paired_ratio` does not have 1 in it,
    whatever becomes of their times.

    Returns:
        Best and worst rank that each may have; None for those that cannot be compared.
    """
    fit = {name: figures for name, figures in networks.items() if figures['gate_error'] is not None}
    faster, slower = dict.fromkeys(fit, 0), dict.fromkeys(fit, 0)
    for name, other in itertools.combinations(fit, 2):
        low, high = paired_ratio(fit[name], fit[other])['interval'] or (0.0, math.inf)
        if high < 1 or low > 1:
            first, last = (name, other) if high < 1 else (other, name)
            slower[first] += 1
            faster[last] += 1
    places = {name: (1 + faster[name], len(networks) - slower[name]) for name in fit}
    return {name: places.get(name) for name in networks}
