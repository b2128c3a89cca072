"""Intervals against published tables, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from weft.core.report.statistics import (
    clustered_interval,
    mean_interval,
    resampled,
    share_interval,
    t_quantile,
)

# Fisher and Yates, Statistical Tables, table III, at 5 % in two tails
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize("freedom", TABLE)
def test_quantiles_are_those_of_the_table(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(TABLE[freedom], abs=5e-4)


def test_quantiles_fall_towards_the_normal_one() -> None:
    quantiles = [t_quantile(freedom) for freedom in (*range(1, 200), 10_000)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] == pytest.approx(1.959964 * (1 + (1 + 1.959964**2) / 40_000), rel=1e-7)


def test_two_values_leave_a_mean_wide_open() -> None:
    low, high = mean_interval([1.0, 3.0])
    assert (low, high) == pytest.approx((2.0 - 12.7062, 2.0 + 12.7062), abs=1e-3)


def test_a_mean_keeps_within_its_bounds_and_a_share_has_a_width() -> None:
    assert mean_interval([0.2, 0.9, 0.8], (0.0, 1.0))[1] == 1.0
    assert mean_interval([0.2, 0.9, 0.8])[1] > 1.0
    assert mean_interval([1.0, 1.0], (0.0, 1.0)) == share_interval(2, 2)
    assert mean_interval([1.0, 1.0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least 2 values, not 1"):
        mean_interval([1.0])


def test_shares_are_wilsons() -> None:
    # Brown, Cai and DasGupta, Statistical Science 16, 2001, eq. 4
    assert share_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share_interval(0, 10)[0] == 0.0
    assert share_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_intervals_of_a_mean_hold_it_in_95_of_100_samples(n: int) -> None:
    samples = np.random.default_rng(1).normal(size=(4000, n))
    holds = [low < 0.0 < high for low, high in map(mean_interval, samples.tolist())]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.015)  # four standard errors


def test_values_that_repeat_in_their_cluster_add_no_certainty() -> None:
    values = np.random.default_rng(2).uniform(size=20)
    apart = clustered_interval(values, np.arange(20))
    assert clustered_interval(values.repeat(3), np.arange(20).repeat(3)) == pytest.approx(apart)
    assert clustered_interval(values, np.zeros(20, dtype=int)) == (0.0, 1.0)


def test_a_bootstrap_is_the_same_at_every_call_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(size=400)

    def mean(picks: np.ndarray) -> np.ndarray:
        return values[picks].mean(axis=1)

    low, high = resampled(mean, 400)
    assert resampled(mean, 400) == (low, high)
    assert (low, high) == pytest.approx(mean_interval(values.tolist()), abs=0.01)


def test_resamples_without_a_value_are_left_out() -> None:
    low, high = resampled(lambda picks: np.where(picks[:, 0] == 0, np.nan, picks[:, 0]), 3)
    assert (low, high) == (1.0, 2.0)
