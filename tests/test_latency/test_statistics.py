"""Percentiles, intervals, verdicts and ranks."""

import numpy as np
import pytest

from mmshuffle.latency import statistics
from mmshuffle.latency.statistics import is_stable, median_interval, paired_ratio, ranks


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
    hits = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        low, high = median_interval([random.standard_normal(100)])
        hits += low <= 0 <= high
    assert 51 <= hits <= 60  # 95 % of 60 is 57


def test_interval_shows_what_differs_between_sessions():
    alike = median_interval(sessions_of(10.0))
    apart = [session + shift for session, shift in zip(sessions_of(10.0), (0, 0.5, 1.0))]
    low, high = median_interval(apart)
    assert high - low > 0.5 > 5 * (alike[1] - alike[0])


def test_steady_times_are_stable():
    steady = summarise(sessions_of(10.0))
    assert steady['reasons'] == [] and steady['verdict'] == 'stable' and is_stable(steady)
    noted = summarise(sessions_of(10.0), ['throttling: cpu0'])
    assert noted['reasons'] == ['throttling: cpu0'] and noted['verdict'] == 'unstable'


@pytest.mark.parametrize(
    'sessions, reason',
    [
        ([np.linspace(10, 11.5, 300)] * 3, 'drifts by +9.8%'),
        ([np.linspace(11.5, 10, 300)] * 3, 'drifts by -'),
        ([s + d for s, d in zip(sessions_of(10.0), (0, 0, 1))], 'sessions differ by 10'),
        ([np.tile([10.0, 10.0, 10.0, 20.0], 50)] * 3, 'one run in ten takes 100% longer'),
        ([[10.0, 14.0, 9.0]], 'the interval of the median is'),
        ([[10.0]], 'only 1 runs'),
        ([[10.0] * 3, [10.0] * 2], 'only 5 runs'),
    ],
)
def test_what_makes_figures_unstable_is_said(sessions, reason):
    summary = summarise(sessions)
    assert not is_stable(summary) and any(r.startswith(reason) for r in summary['reasons'])


def test_the_largest_drift_counts_whatever_its_sign():
    up, down = np.linspace(10, 10.2, 99), np.linspace(12, 10, 99)
    assert summarise([up, down])['drift'] < -0.1


def simulate(seed, ratio, between=0.005, sessions=3, in_turn=True) -> list[dict]:
    """Two networks on a device that gets slower by a fifth within each session, by turns.

    What is noise: of runs 1 %, of blocks 0.5 %, of a session's start 5 %, and ``between`` sessions
    in the ratio.
    """
    random, turns = np.random.default_rng(seed), 10
    found = [dict(samples_ms=[], gate_error=0.0) for _ in range(2)]
    for _ in range(sessions):
        speed = random.normal(0, 0.05) + np.linspace(0, 0.2, 2 * turns)
        order = [0, 1, 1, 0] * (turns // 2) if in_turn else [0] * turns + [1] * turns
        shift = np.log(ratio) + random.normal(0, between), 0
        for figures in found:
            figures['samples_ms'].append([])
        for slowness, n in zip(speed + random.normal(0, 0.005, 2 * turns), order):
            runs = slowness + shift[n] + np.abs(random.normal(0, 0.01, 8))
            found[n]['samples_ms'][-1].append(list(10 * np.exp(runs)))
    return [{**statistics.summarise(figures['samples_ms']), **figures} for figures in found]


def quotient(mine: dict, other: dict) -> tuple[float, float]:
    """Bounds of a ratio from the intervals of both medians, which knows of no turns."""
    (low, high), (least, most) = mine['interval_ms'], other['interval_ms']
    return low / most, high / least


@pytest.mark.parametrize('sessions, between', [(1, 0), (2, 0.01), (3, 0), (3, 0.02), (5, 0.02)])
@pytest.mark.parametrize('ratio', [1.0, 3.0])
def test_interval_of_paired_ratios_holds_the_true_one_as_often_as_it_says(
    sessions, between, ratio, monkeypatch
):
    monkeypatch.setattr(statistics, 'median_interval', lambda *args: (1, 1))  # slow, not needed
    found = [paired_ratio(*simulate(n, ratio, between, sessions))['interval'] for n in range(100)]
    assert 90 <= sum(low <= ratio <= high for low, high in found) <= 100  # 95 is what it says


def test_ratios_from_times_alone_do_not_survive_a_drift():
    pairs = [simulate(seed, 3.0) for seed in range(20)]
    widths = [np.log(paired_ratio(*pair)['interval'][::-1]) @ (1, -1) for pair in pairs]
    alone = [np.log(quotient(*pair)[::-1]) @ (1, -1) for pair in pairs]
    assert np.median(widths) < 0.03 < 5 * np.median(widths) < np.median(alone)
    # One after the other, as two programs are usually timed.
    apart = [quotient(*simulate(seed, 3.0, in_turn=False)) for seed in range(20)]
    assert sum(low <= 3 <= high for low, high in apart) < 10
    assert not any(is_stable(figures) for pair in pairs for figures in pair)
    assert sum(paired_ratio(*pair)['verdict'] == 'reliable' for pair in pairs) > 15


@pytest.mark.parametrize(
    'sessions, change, reason',
    [
        (3, lambda mine, other: other.update(gate_error=None), 'outputs not checked'),
        (3, lambda mine, other: mine['samples_ms'][0].reverse(), 'its interval is'),
        (1, lambda mine, other: other.update(samples_ms=[other['samples_ms'][0][:5]]), 'only 5 t'),
    ],
)
def test_what_makes_ratios_unreliable_is_said(sessions, change, reason):
    mine, other = simulate(0, 3.0, sessions=sessions)
    assert paired_ratio(mine, other)['reasons'] == []
    change(mine, other)
    ratio = paired_ratio(mine, other)
    assert ratio['reasons'][0].startswith(reason) and ratio['verdict'] == 'unreliable'
    assert ratio['value'] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    'ratio, unchecked, expected',
    [
        (1.04, [], [(2, 2), (1, 1)]),
        (0.96, [], [(1, 1), (2, 2)]),
        (1.0, [], [(1, 2), (1, 2)]),
        (1.04, [0], [None, (1, 2)]),  # it may be anywhere
    ],
)
def test_ranks_are_of_paired_ratios_whatever_becomes_of_the_times(ratio, unchecked, expected):
    networks = dict(enumerate(simulate(1, ratio)))
    for n in unchecked:
        networks[n]['gate_error'] = None
    assert not any(map(is_stable, networks.values()))
    low, high = quotient(networks[0], networks[1])
    assert low < 1 < high
    assert list(ranks(networks).values()) == expected
