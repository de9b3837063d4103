"""Tests across seeds: exact and one-sided, with an interval for the mean."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
"""The chance, at most, of calling any claim of a family supported when none of them holds."""


def sign_flip(effects: Sequence[float]) -> float:
    """p of a mean above 0, exact: the share of all changes of sign that reach this mean.

    Without an effect, a seed's value is as likely as its negative. With n seeds the smallest p is
    1 / 2^n; with a NaN it is 1. All changes are listed: for up to 20 seeds or so.
    """
    effects = np.asarray(effects, dtype=float)
    sums = _signs(len(effects)) @ effects
    return float(np.mean(~(sums < sums[0] - 1e-12 * np.abs(effects).sum())))


@cache
def _signs(n: int) -> np.ndarray:
    """All changes of n signs, (2^n, n); the first changes none."""
    return 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype("i1")


def below_chance(values: Sequence[float], chance: Iterable[Sequence[float]]) -> float:
    """p of a sum this low, exact, if chance draws each seed's value uniformly from its own list.

    Values are whole numbers from 0 on.
    """
    total = np.ones(1)  # P of each sum, put together seed by seed
    for options in chance:
        total = np.convolve(total, np.bincount(np.asarray(options, int)) / len(options))
    return min(1.0, float(total[: int(np.sum(values)) + 1].sum()))


def bonferroni(p: float, tests: int) -> float:
    """p times the number of claims tested together: each can be judged without the others."""
    return min(1.0, tests * p)


def interval(effects: Sequence[float]) -> tuple[float, float]:
    """The 95 percent interval of the mean (Student's t); without ends for a single seed."""
    effects = np.asarray(effects, dtype=float)
    if len(effects) < 2:
        return -np.inf, np.inf
    half = stats.t.ppf(0.975, len(effects) - 1) * effects.std(ddof=1) / np.sqrt(len(effects))
    return float(effects.mean() - half), float(effects.mean() + half)
