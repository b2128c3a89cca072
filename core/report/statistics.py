"""95 % intervals: of a mean, of a share, of a mean whose values come in clusters, and by bootstrap. Free of torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .interval import UNBOUNDED, Interval

NORMAL: Final = 1.959964
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES: Final = 10_000


def mean_interval(values: Sequence[float], bounds: Interval = UNBOUNDED) -> Interval:
    """Of the mean of independent values: Student's t, cut at the bounds of what is measured.

    Values that are all 0 or 1, and can be nothing beyond, are a share: t would give 1 and 1 no width at all.

    Args:
        values: at least two.
        bounds: what a value can be.

    Raises:
        ValueError: there are fewer than two, whose spread is not known.
    """
    if len(values) < 2:
        raise ValueError(f"an interval takes at least 2 values, not {len(values)}")
    if bounds == (0.0, 1.0) and set(values) <= {0.0, 1.0}:
        return share_interval(int(sum(values)), len(values))
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    half = t_quantile(len(sample) - 1) * float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def share_interval(right: int, n: int) -> Interval:
    """Of ``right`` of ``n``: Wilson's (JASA 22, 1927, p. 209-212); all of [0, 1] where ``n`` is 0."""
    if n == 0:
        return 0.0, 1.0
    z, p = NORMAL, right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_interval(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> Interval:
    """Of the mean of values in [0, 1] that may go with the others of their cluster.

    The normal one, with the errors summed by cluster before they are squared (Liang and Zeger, Biometrika 73, 1986,
    eq. 7, for a mean); fewer than two clusters leave it at [0, 1].

    Args:
        values: (n,).
        clusters: (n,), the number of each value's cluster, from 0.
    """
    k = len(np.unique(clusters))
    if k < 2:
        return 0.0, 1.0
    mean = float(values.mean())
    errors = np.bincount(clusters, values - mean)
    half = NORMAL * math.sqrt(k / (k - 1) * float(np.square(errors).sum())) / len(values)
    return max(0.0, mean - half), min(1.0, mean + half)


def resampled(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, resamples: int = RESAMPLES
) -> Interval:
    """The percentile interval of a statistic's bootstrap (Efron and Tibshirani 1993, 13.3), the same at every call.

    Args:
        statistic: takes (resamples, n) numbers of cases, drawn with replacement, and gives one value a resample; those
            that are NaN, as of a ratio whose cases were not drawn, are left out.
        n: cases.
    """
    values = statistic(np.random.default_rng(0).integers(n, size=(resamples, n)))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


@functools.cache
def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t with a whole number of degrees of freedom, at least 1.

    Solves the finite series of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, by bisection of the angle
    ``atan(t / sqrt(freedom))``, in which it rises from 0 to 1.
    """
    low, high = 0.0, math.pi / 2
    while (angle := (low + high) / 2) not in (low, high):
        low, high = (angle, high) if _within(angle, freedom) < 0.95 else (low, angle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """The probability that -t to t holds, by the angle of t."""
    odd = freedom % 2
    k = np.arange(1, freedom // 2)
    # the factors between the terms: 2/3, 4/5, ... of the odd series, 1/2, 3/4, ... of the even one
    factors = (2 * k - 1 + odd) / (2 * k + odd) * math.cos(angle) ** 2
    series = 1.0 + float(np.cumprod(factors).sum())
    if not odd:
        return math.sin(angle) * series
    if freedom == 1:
        return 2 / math.pi * angle
    return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * series)
