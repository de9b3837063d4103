"""The test of P1 where nothing grows back, and where something does: a cell of the claims' page."""

import numpy as np
import pytest


@pytest.fixture
def page(notebook_cells):
    return notebook_cells("claims", "claims-04", "claims-nulls")


def test_the_test_of_p1_keeps_its_level(page):
    """20 experiments of each kind: at most 5 percent and two standard errors."""
    assert len(page["NULLS"]) == 5
    for null in page["NULLS"]:
        for noise in page["NOISE"].values():
            assert page["false_alarms"](null, noise, 20)[2] <= 0.05 + 2 * 0.049


def test_edges_regrown_alone_are_fooled_by_noise_after_an_early_drop(page):
    back, advantage, lead = page["false_alarms"]("early drop that stays", 0.25, 20)
    assert back > 0.5 and advantage > 0.5 and lead <= 0.15


@pytest.mark.parametrize("noise", [0.02, 0.25])
def test_growing_is_found(page, noise):
    epochs, turn = page["EPOCHS"], page["TURN"]
    alpha = page["made_alpha"]("walk", noise, 16, np.random.default_rng(0))
    course = np.interp(np.arange(epochs + 1), [0, turn, epochs], [0.0, 2.0, -4.0])
    alpha[:, :, page["INPUTS"], 0] += course[:, None]
    cost = np.where(np.arange(epochs + 1) <= turn, 0.2, -0.1)
    assert page["p_of_growing"](alpha, cost).max() <= 0.001


def test_made_noise_has_its_size_and_its_memory(page):
    rng = np.random.default_rng(0)
    for null, expected in (("walk", 0.0), ("autocorrelated walk", 0.9)):
        updates = np.diff(page["made_alpha"](null, 0.25, 50, rng), axis=1)
        assert updates.std() == pytest.approx(0.25, rel=0.02)
        found = np.corrcoef(updates[:, 1:].ravel(), updates[:, :-1].ravel())[0, 1]
        assert found == pytest.approx(expected, abs=0.02)
