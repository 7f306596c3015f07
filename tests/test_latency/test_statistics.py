"""Percentiles, intervals, verdicts and ranks."""

import dataclasses

import numpy as np
import pytest

from mmshuffle.latency.statistics import Summary, median_interval, ranks, summarise


def sessions_of(median: float, number: int = 3, count: int = 200, seed: int = 0) -> list:
    random = np.random.default_rng(seed)
    return [median * (1 + 0.01 * random.standard_normal(count)) for _ in range(number)]


def test_figures_are_those_of_all_runs():
    summary = summarise([[3.0, 1.0, 2.0], [5.0, 4.0]])
    assert (summary.count, summary.sessions) == (5, 2)
    assert (summary.min, summary.median, summary.mean) == (1, 3, 3)
    assert summary.std == pytest.approx(np.std([1, 2, 3, 4, 5]))
    assert summary.p10 == pytest.approx(1.4) and summary.p90 == pytest.approx(4.6)
    assert summary.spread == pytest.approx(4.5 / 2 - 1)


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
    assert summarise(sessions_of(10.0)).reasons == ()
    noted = summarise(sessions_of(10.0), ['throttling: cpu0'])
    assert noted.reasons == ('throttling: cpu0',) and not noted.stable


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
    assert not summary.stable and any(r.startswith(reason) for r in summary.reasons)


def test_the_largest_drift_counts_whatever_its_sign():
    up, down = np.linspace(10, 10.2, 99), np.linspace(12, 10, 99)
    assert summarise([up, down]).drift < -0.1


def with_interval(low: float, high: float) -> Summary:
    base = summarise(sessions_of((low + high) / 2))
    return dataclasses.replace(base, interval=(low, high))


def test_ranks_need_intervals_that_do_not_overlap():
    found = {
        name: with_interval(*at) for name, at in dict(a=(1, 2), b=(1.9, 2.5), c=(3, 4)).items()
    }
    assert ranks(found) == {'a': (1, 2), 'b': (1, 2), 'c': (3, 3)}
    # One that is not stable may be anywhere.
    found['b'] = dataclasses.replace(with_interval(0.5, 0.6), reasons=('drifts',))
    assert ranks(found) == {'a': (1, 2), 'b': None, 'c': (2, 3)}


def test_times_of_emulation_have_other_names():
    real = summarise(sessions_of(10.0)).as_dict()
    emulated = summarise(sessions_of(10.0)).as_dict(emulated=True)
    assert emulated['emulated_median_ms'] == real['median_ms']
    assert not any(name.endswith('_ms') for name in emulated if not name.startswith('emulated_'))
