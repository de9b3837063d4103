"""The tests against brute force, and the rates they promise on made data."""

from itertools import product

import numpy as np
import pytest

from nascore.evidence.significance import (
    SIGNIFICANCE,
    below_chance,
    bonferroni,
    interval,
    sign_flip,
)


def test_sign_flip_is_exact():
    assert sign_flip([1.0, 2.0, 0.5]) == 1 / 8  # no other change of signs reaches this mean
    assert sign_flip([1.0, -1.0]) == 3 / 4
    assert sign_flip([-1.0, -2.0]) == 1.0
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip([0.0, 3.0]) == 1 / 2  # a seed without effect halves what can be known
    assert sign_flip(np.ones(8)) == 2.0**-8


def test_sign_flip_keeps_its_level_and_finds_an_effect():
    draws = np.random.default_rng(0).normal(size=(400, 8))
    assert np.mean([sign_flip(seeds) <= SIGNIFICANCE for seeds in draws]) <= 0.07  # 0.05 + 2 errors
    assert np.mean([sign_flip(seeds + 1.5) <= SIGNIFICANCE for seeds in draws]) > 0.9


def test_below_chance_is_exact():
    lists = [[1, 1, 2], [1, 2, 2, 3], [2, 4]]
    values = [1, 2, 2]
    sums = [sum(draw) for draw in product(*lists)]
    assert below_chance(values, lists) == pytest.approx(np.mean(np.array(sums) <= sum(values)))
    assert below_chance([3.0], [[1.0, 2.0, 3.0]]) == pytest.approx(1.0)
    assert below_chance([2.0], [[2.0]]) == 1.0  # chance leaves no room: nothing can be learned


def test_interval():
    low, high = interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(4.30265 / np.sqrt(3), rel=1e-4)  # t table, 2 freedoms
    assert interval([1.0]) == (-np.inf, np.inf)
    draws = np.random.default_rng(1).normal(size=(500, 6))
    inside = [low <= 0 <= high for low, high in map(interval, draws)]
    assert 0.92 < np.mean(inside) < 0.98


def test_bonferroni():
    assert bonferroni(0.01, 6) == pytest.approx(0.06)
    assert bonferroni(0.5, 6) == 1.0


def test_a_seed_without_a_number_supports_nothing():
    assert sign_flip([np.nan, 1.0, 1.0]) == 1
