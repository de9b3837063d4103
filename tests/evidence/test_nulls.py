"""The test of P1 where nothing grows back, and where something does."""

import numpy as np
import pytest

from nascore.evidence.nulls import (
    EPOCHS,
    INPUTS,
    NULLS,
    QUIET,
    STRONG,
    TURN,
    false_alarms,
    made_alpha,
    p_of_growing,
)


@pytest.mark.parametrize("noise", [QUIET, STRONG])
@pytest.mark.parametrize("null", NULLS)
def test_the_test_of_p1_keeps_its_level(null, noise):
    """20 experiments of each kind: at most 5 percent and two standard errors."""
    assert false_alarms(null, noise, repetitions=20)[2] <= 0.05 + 2 * 0.049


def test_edges_regrown_alone_are_fooled_by_noise_after_an_early_drop():
    back, advantage, lead = false_alarms("early drop that stays", STRONG, repetitions=20)
    assert back > 0.5 and advantage > 0.5 and lead <= 0.15


@pytest.mark.parametrize("noise", [QUIET, STRONG])
def test_growing_is_found(noise):
    rng = np.random.default_rng(0)
    alpha = made_alpha("walk", noise, 16, rng)
    course = np.interp(np.arange(EPOCHS + 1), [0, TURN, EPOCHS], [0.0, 2.0, -4.0])
    alpha[:, :, INPUTS, 0] += course[:, None]
    cost = np.where(np.arange(EPOCHS + 1) <= TURN, 0.2, -0.1)
    assert p_of_growing(alpha, cost).max() <= 0.001


def test_made_noise_has_its_size_and_its_memory():
    rng = np.random.default_rng(0)
    walk = np.diff(made_alpha("walk", 0.25, 50, rng), axis=1)
    carried = np.diff(made_alpha("autocorrelated walk", 0.25, 50, rng), axis=1)
    assert walk.std() == pytest.approx(0.25, rel=0.02)
    assert carried.std() == pytest.approx(0.25, rel=0.02)
    for updates, expected in ((walk, 0.0), (carried, 0.9)):
        found = np.corrcoef(updates[:, 1:].ravel(), updates[:, :-1].ravel())[0, 1]
        assert found == pytest.approx(expected, abs=0.02)
