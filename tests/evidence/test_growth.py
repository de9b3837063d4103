"""Dropped, regrown, the turn and what none gains, on small made series."""

import numpy as np
import pytest

from nascore import Run, SearchConfig, search
from nascore.errors import ConfigError
from nascore.evidence.growth import (
    alpha_of,
    dropped,
    kept_edges,
    none_advantage,
    none_lead,
    regrown,
    reordered,
    turn,
)


def series(*none):
    """alpha of one edge and three operations, `none` first, (epochs + 1, 1, 3)."""
    return np.array([[[amount, 0.0, -1.0]] for amount in none])


def test_an_edge_is_dropped_by_a_margin_over_every_other_operation():
    alpha = np.array([[0.0, 0.0, 0.0], [0.099, 0.0, 0.0], [0.101, 0.0, 0.0], [5.0, 4.95, 0.0]])
    assert dropped(alpha).tolist() == [False, False, True, False]


def test_regrown_counts_edges_that_were_dropped_and_are_not_at_the_end():
    assert regrown(series(0, 1, 1, 0)) == 1
    assert regrown(series(0, 1, 0, 1)) == 0  # dropped again
    assert regrown(series(1, 0, 0, 0)) == 0  # before any learning does not count
    assert regrown(series(0, 0, 0, 1)) == 0
    both = np.concatenate([series(0, 1, 1, 0), series(0, 1, 1, 1)], axis=1)
    assert regrown(both) == 1


def test_reversed_updates_keep_start_and_end_and_undo_what_grew_back():
    alpha = series(0, 1, 0.5, -1)
    back = reordered(alpha, np.array([2, 1, 0]))
    assert np.allclose(back[:, 0, 0], [0, -1.5, -2, -1])
    assert regrown(alpha) == 1 and regrown(back) == 0
    assert np.allclose(reordered(alpha, np.arange(3)), alpha)


def test_without_alpha_an_edge_is_dropped_by_what_is_probable():
    """As in ENAS, whose controller learns no alpha: log p is alpha up to a constant."""
    config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    run = search(config.replace(framework="enas"), progress=False)
    probability = run.history.probability.copy()
    probability[1, 0] = 0.01
    probability[1, 0, 0] = 0.93  # of none
    sure = Run(run.config, run.history.assign(probability=probability), {})
    assert dropped(alpha_of(sure))[1].tolist() == [True, *dropped(alpha_of(run))[1, 1:]]


def test_turn_is_where_the_running_sum_is_highest():
    assert turn(np.array([0.1, 0.3, 0.2, -0.1, -0.4])) == 2
    assert turn(np.array([0.1, -0.3, 0.5, 0.2])) == 3
    assert turn(np.array([-0.1, -0.3, -0.2])) == 0


def test_advantage_and_lead_of_none():
    p = np.array([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]])  # two edges
    assert none_advantage(p) == pytest.approx((np.log(2) + np.log(0.5)) / 2)
    uneven = np.array([[0.5, 0.4, 0.1]])
    assert none_advantage(uneven) == pytest.approx(np.log(2))
    assert none_lead(uneven) == pytest.approx(np.log(0.5) - np.log(0.04) / 2)
    alpha = np.random.default_rng(0).normal(size=(4, 3, 8))
    weight = np.exp(alpha)
    lead = none_lead(weight / weight.sum(axis=-1, keepdims=True))
    assert np.allclose(lead, (alpha[..., 0] - alpha[..., 1:].mean(axis=-1)).mean(axis=-1))


def test_a_run_with_an_edge_that_may_take_less(run):
    """(2,3) may take none or skip_connect: what it may not take never keeps it."""
    changed = run.history.alpha.copy(deep=True)
    changed.loc[{"edge": "(2,3)"}] = 0.0
    changed.loc[{"edge": "(2,3)", "operation": "none"}] = 1.0
    changed.loc[{"edge": "(2,3)", "operation": "sep_conv_3x3"}] = 9.0
    other = type(run)(run.config, run.history.assign(alpha=changed), run.provenance)
    assert dropped(alpha_of(other))[:, 4].all()
    assert (kept_edges(other) <= 4).all()
    assert np.isfinite(reordered(alpha_of(other), np.array([1, 0]))).all()


def test_none_is_read_first_wherever_it_stands(run):
    names = list(run.config.operations)
    config = run.config.replace(operations=[*names[1:], "none"])
    history = run.history.sel(operation=list(config.operations))
    assert np.array_equal(alpha_of(type(run)(config, history, {})), alpha_of(run))


def test_a_search_that_diverged_keeps_an_unknown_number_of_edges():
    config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=2)
    history = search(config, progress=False).history.copy(deep=True)
    for name in ("alpha", "probability"):
        history[name][1:] = np.nan
    kept = kept_edges(Run(config, history, {}))
    assert kept[0] == 5 and np.isnan(kept[1:]).all()


def test_without_none_nothing_can_be_dropped():
    config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    run = search(config.replace(operations=["skip_connect", "sep_conv_3x3"]), progress=False)
    with pytest.raises(ConfigError, match="add it to operations"):
        kept_edges(run)
