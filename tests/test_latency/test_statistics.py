"""Percentiles, intervals, verdicts and ranks."""

import numpy as np
import pytest

from mmshuffle.latency.statistics import is_stable, median_interval, ranks, summarise


def sessions_of(median: float, number: int = 3, count: int = 200, seed: int = 0) -> list:
    random = np.random.default_rng(seed)
    return [median * (1 + 0.01 * random.standard_normal(count)) for _ in range(number)]


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


def with_interval(low: float, high: float) -> dict:
    return dict(summarise(sessions_of((low + high) / 2)), interval_ms=(low, high))


def test_ranks_need_intervals_that_do_not_overlap():
    found = {
        name: with_interval(*at) for name, at in dict(a=(1, 2), b=(1.9, 2.5), c=(3, 4)).items()
    }
    assert ranks(found) == {'a': (1, 2), 'b': (1, 2), 'c': (3, 3)}
    # One that is not stable may be anywhere.
    found['b'] = dict(with_interval(0.5, 0.6), reasons=['drifts'])
    assert ranks(found) == {'a': (1, 2), 'b': None, 'c': (2, 3)}
