"""Percentiles, intervals, verdicts and ranks."""

import numpy as np
import pytest

from mmshuffle.latency import statistics
from mmshuffle.latency.statistics import median_interval, paired_ratio, ranks


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(statistics, 'RESAMPLES', 200)


def sessions_of(median: float, number: int = 3, count: int = 200, seed: int = 0) -> list:
    random = np.random.default_rng(seed)
    return [median * (1 + 0.01 * random.standard_normal(count)) for _ in range(number)]


def summarise(sessions: list, notes=()) -> dict:
    return statistics.summarise([[times] for times in sessions], notes)


def test_figures_are_those_of_all_runs():
    summary = summarise([[3.0, 1.0, 2.0], [5.0, 4.0]])
    expected = dict(count=5, sessions=2, min_ms=1, median_ms=3, mean_ms=3, p10_ms=1.4, p90_ms=4.6)
    expected |= dict(std_ms=np.std([1, 2, 3, 4, 5]), spread=4.5 / 2 - 1)
    assert {key: summary[key] for key in expected} == pytest.approx(expected)


def test_interval_holds_the_true_median_about_as_often_as_it_says():
    drawn = np.random.default_rng(0).standard_normal((60, 1, 100))
    hits = sum(low <= 0 <= high for low, high in map(median_interval, drawn))
    assert 51 <= hits <= 60  # 95 % of 60 is 57


def test_interval_shows_what_differs_between_sessions():
    alike = median_interval(sessions_of(10.0))
    apart = [session + shift for session, shift in zip(sessions_of(10.0), (0, 0.5, 1.0))]
    low, high = median_interval(apart)
    assert high - low > 0.5 > 5 * (alike[1] - alike[0])


def test_steady_times_are_stable():
    steady = summarise(sessions_of(10.0))
    assert steady['reasons'] == [] and steady['verdict'] == 'stable'
    noted = summarise(sessions_of(10.0), ['throttling: cpu0'])
    assert noted['reasons'] == ['throttling: cpu0'] and noted['verdict'] == 'unstable'


@pytest.mark.parametrize(
    'sessions, reason',
    [
        ([np.linspace(10, 11.5, 300)] * 3, 'drifts by +9.8%'),
        ([np.linspace(11.5, 10, 300)] * 3, 'drifts by -'),
        ([np.linspace(10, 10.2, 99), np.linspace(12, 10, 99)], 'drifts by -'),  # the largest one
        ([s + d for s, d in zip(sessions_of(10.0), (0, 0, 1))], 'sessions differ by 10'),
        ([np.tile([10.0, 10.0, 10.0, 20.0], 50)] * 3, 'one run in ten takes 100% longer'),
        ([[10.0, 14.0, 9.0]], 'the interval of the median is'),
        ([[10.0]], 'only 1 runs'),
        ([[10.0] * 3, [10.0] * 2], 'only 5 runs'),
    ],
)
def test_what_makes_figures_unstable_is_said(sessions, reason):
    summary = summarise(sessions)
    assert summary['verdict'] == 'unstable'
    assert any(r.startswith(reason) for r in summary['reasons'])


def simulate(seed, ratio, between=0.005, sessions=3) -> list[dict]:
    """Two networks on a device that gets slower by a fifth within each session, by turns.

    What is noise: of runs 1 %, of blocks 0.5 %, of a session's start 5 %, and ``between`` sessions
    in the ratio.
    """
    random, turns = np.random.default_rng(seed), 10
    found = [dict(samples_ms=[], gate_error=0.0) for _ in range(2)]
    for _ in range(sessions):
        speed = random.normal(0, 0.05) + np.linspace(0, 0.2, 2 * turns)
        order = [0, 1, 1, 0] * (turns // 2)
        shift = np.log(ratio) + random.normal(0, between), 0
        for figures in found:
            figures['samples_ms'].append([])
        for slowness, n in zip(speed + random.normal(0, 0.005, 2 * turns), order):
            runs = slowness + shift[n] + np.abs(random.normal(0, 0.01, 8))
            found[n]['samples_ms'][-1].append(list(10 * np.exp(runs)))
    return [{**statistics.summarise(figures['samples_ms']), **figures} for figures in found]


def bounds(mine: dict, other: dict) -> tuple[float, float]:
    return paired_ratio(mine, other)['interval']


def quotient(mine: dict, other: dict) -> tuple[float, float]:
    """Bounds of a ratio from the intervals of both medians, which knows of no turns."""
    (low, high), (least, most) = mine['interval_ms'], other['interval_ms']
    return low / most, high / least


@pytest.mark.parametrize('sessions, between', [(1, 0), (2, 0.01), (3, 0), (3, 0.02), (5, 0.02)])
def test_interval_of_paired_ratios_holds_the_true_one_as_often_as_it_says(
    sessions, between, monkeypatch
):
    monkeypatch.setattr(statistics, 'median_interval', lambda *args: (1, 1))  # slow, not needed
    found = [bounds(*simulate(n, 3.0, between, sessions)) for n in range(200)]
    assert 182 <= sum(low <= 3 <= high for low, high in found) <= 200  # 95 % are 190


def test_ratios_from_times_alone_do_not_survive_a_drift():
    pairs = [simulate(seed, 3.0) for seed in range(8)]
    assert all(figures['reasons'] for pair in pairs for figures in pair)
    paired, alone = ([np.ptp(np.log(f(*p))) for p in pairs] for f in (bounds, quotient))
    assert np.median(paired) < 0.03 < 5 * np.median(paired) < np.median(alone)


@pytest.mark.parametrize(
    'change, reason',
    [
        (dict(gate_error=None), 'outputs not checked'),
        (dict(samples_ms=[[[1.0] * 8] * 10, [[1.1] * 8] * 10]), 'its interval is'),
        (dict(samples_ms=[[[1.0] * 8] * 5]), 'only 5 turns'),
    ],
)
def test_what_makes_ratios_unreliable_is_said(change, reason):
    mine, other = simulate(0, 3.0)
    assert paired_ratio(mine, other)['verdict'] == 'reliable'
    ratio = paired_ratio(mine, other | change)
    assert ratio['reasons'][0].startswith(reason) and ratio['verdict'] == 'unreliable'


@pytest.mark.parametrize(
    'ratio, expected', [(1.04, [(2, 2), (1, 1)]), (0.96, [(1, 1), (2, 2)]), (1.0, [(1, 2)] * 2)]
)
def test_ranks_are_of_paired_ratios_whatever_becomes_of_the_times(ratio, expected):
    first, second = networks = simulate(1, ratio)
    low, high = quotient(*networks)
    assert low < 1 < high and all(figures['reasons'] for figures in networks)
    assert list(ranks(dict(enumerate(networks))).values()) == expected
    first['gate_error'] = None  # it may be anywhere
    assert ranks(dict(a=first, b=second)) == dict(a=None, b=(1, 2))
