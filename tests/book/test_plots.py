import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from nascore import Run, SearchConfig, SearchSpace, search
from nascore.book import plots


@pytest.fixture(scope="module")
def runs():
    config = SearchConfig(
        dataset="synthetic",
        train_examples=64,
        valid_examples=32,
        augment=False,
        cells=1,
        channels=4,
        batch_size=32,
        epochs=2,
    )
    return [search(config.replace(seed=seed), progress=False) for seed in (0, 1)]


@pytest.fixture(autouse=True)
def axes():
    plots.set_style()
    _, ax = plt.subplots()
    yield ax
    plt.close("all")


def band(ax):
    """The lowest and the highest value of the first band."""
    points = ax.collections[0].get_paths()[0].vertices[:, 1]
    return points.min(), points.max()


def test_a_line_is_the_mean_and_its_band_reaches_all_seeds(runs, axes):
    curves = [run.active_edges for run in runs]
    plots.over_epochs(curves, axes, "label")
    values = np.stack([curve.values for curve in curves])
    assert np.allclose(axes.lines[0].get_ydata(), values.mean(axis=0))
    assert band(axes) == (values.min(), values.max())


def test_none_probability_has_a_line_for_every_edge(runs, axes):
    plots.none_probability(runs, axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["(0,2) input", "(1,2) input", "(0,3) input", "(1,3) input",
                      "(2,3) intermediate"]  # fmt: skip
    assert np.allclose(
        axes.lines[4].get_ydata(),
        np.mean([run.none_probability.sel(edge="(2,3)") for run in runs], axis=0),
    )


def test_arms_and_splits_are_told_apart(runs, axes):
    plots.output_cost({"one": runs, "two": runs}, ["train", "valid"], axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["one, train set", "one, valid set", "two, train set", "two, valid set"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert axes.lines[0].get_color() != axes.lines[2].get_color()


def test_active_edges_has_a_line_for_each_arm(runs, axes):
    plots.active_edges({"one": runs, "two": runs}, axes)
    assert len(axes.lines) == 2


@pytest.mark.parametrize("space", [SearchSpace.simplified(), SearchSpace.normal()])
def test_a_cell_shows_every_edge_and_output_link(space, axes):
    plots.cell(space, axes)
    arrows = [patch for patch in axes.patches if hasattr(patch, "get_arrowstyle")]
    assert len(arrows) == len(space.edges) + space.nodes


def test_a_wiring_names_its_operations_and_its_epoch(runs, axes):
    plots.wiring(runs[0], 2, axes)
    assert axes.get_title() == "epoch 2"
    texts = [text.get_text() for text in axes.texts]
    for name in runs[0].wiring.operations:
        assert name == "none" or name.replace("_", " ") in texts


def test_loss_and_entropy_show_every_split_that_has_examples(runs, axes):
    plots.loss_and_entropy(runs, axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["L, train set", "H, train set", "L, valid set", "H, valid set"]
    above, below = (line.get_ydata() for line in axes.lines[:2])
    expected = np.mean([run.output_cost.sel(split="train") for run in runs], axis=0)
    assert np.allclose(above - below, expected, atol=1e-5)


def test_outcomes_tell_right_from_wrong(runs, axes):
    plots.outcomes(runs, "valid", axes)
    expected = np.mean([run.history.loss.sel(split="valid", outcome="wrong") for run in runs], 0)
    assert np.allclose(axes.lines[2].get_ydata(), expected, equal_nan=True)


def test_cost_is_the_sum_over_cells_in_millinats(runs, axes):
    plots.cost(runs, slice(1, None), axes)
    shown = axes.collections[0].get_array().reshape(5, 7)
    cost = np.stack([run.history.cost_mean.values[1:, 0, :, 1:] for run in runs])
    with np.errstate(invalid="ignore"):
        count = np.isfinite(cost).sum(axis=(0, 1))
        expected = 1000 * np.nansum(cost, axis=(0, 1)) / np.where(count, count, np.nan)
    assert np.allclose(np.ma.filled(shown, np.nan), expected, equal_nan=True, rtol=1e-4)


def test_a_portrait_has_six_panels(runs):
    figure = plots.portrait(runs)
    titled = [ax for ax in figure.axes if ax.get_title() or ax.get_ylabel()]
    assert len(titled) == 6 + 2  # and the colour bars of two of them


def test_a_portrait_of_a_run_that_diverged(runs):
    history = runs[0].history.copy(deep=True)
    for name in ("alpha", "probability", "loss", "entropy"):
        history[name][1:] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing
        figure = plots.portrait([Run(runs[0].config, history, {})])
    assert figure.axes[1].get_ylabel() == "edges" and not figure.axes[1].lines


def test_wirings_in_a_grid(runs):
    shown = [ax.get_title() for ax in plots.evolution(runs[0]).axes]
    assert shown[:3] == ["epoch 0", "epoch 1", "epoch 2"]
    assert [ax.get_title() for ax in plots.final_wirings(runs).axes] == ["seed 0", "seed 1"]
