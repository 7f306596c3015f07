"""Timing in turns: what hits all alike cancels out."""

import numpy as np
import pytest

from mmshuffle.deploy.timing import fastest, ratio, time_in_turns


def test_runs_take_turns_and_the_order_moves_on():
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in 'abc'}
    times = time_in_turns(runs, 0, burst=2)
    assert all(len(values) == 5 for values in times.values())
    firsts = ''.join(calls[::3])  # one untimed and two timed calls each
    assert firsts == 'abc' + 'bca' + 'cab' + 'abc' + 'bca'


def test_ratios_are_taken_within_rounds():
    """A machine that is slow in some rounds is slow for both."""
    slow = np.array([1, 1, 5, 5, 5, 1, 9.0])
    assert ratio(1.2 * slow, slow) == pytest.approx(dict(median=1.2, low=1.2, high=1.2))
    noisy = np.array([1.0, 1.1, 1.2, 1.3, 1.4])
    found = ratio(noisy, np.ones(5))
    assert found['median'] == pytest.approx(1.2)
    assert found['low'] < 1.15 and found['high'] > 1.25


def test_the_fastest_is_chosen_within_rounds():
    """Its own median is the higher one: it was interrupted in two rounds of five."""
    good = np.array([1.0, 1.0, 2.0, 9.0, 9.0])
    other = np.array([1.1, 1.1, 2.2, 1.1, 1.1])
    assert np.median(good) > np.median(other)
    assert fastest({'other': other, 'good': good}) == 'good'
