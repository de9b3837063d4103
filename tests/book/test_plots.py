import re
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nascore import Run, SearchConfig, SearchSpace, Wiring, search
from nascore.book import plots
from nascore.evidence import measured_cost

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SEEDS = 3
STEPS = [0, 2, 4]  # of two epochs
EDGES = ["(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)"]


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
    return [search(config.replace(seed=seed), progress=False) for seed in range(SEEDS)]


@pytest.fixture(autouse=True)
def axes():
    plots.set_style()
    _, ax = plt.subplots()
    yield ax
    plt.close("all")


def keeping(run, *kept):
    """The run with the first so many edges kept, and the others dropped, after each epoch."""
    alpha = np.zeros((3, 5, 8))
    alpha[..., 0] = np.arange(5) >= np.array(kept)[:, None]
    history = run.history.assign(alpha=(["epoch", "edge", "operation"], alpha))
    return Run(run.config, history, {})


def diverging(run):
    """The run with no number after its start."""
    history = run.history.copy(deep=True)
    for name in ("alpha", "probability", "loss", "entropy"):
        history[name][1:] = np.nan
    return Run(run.config, history, {})


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def medians(ax):
    """The thick lines: each the median over seeds."""
    return [line for line in ax.lines if line.get_lw() > 2]


def median(measure, runs):
    return np.median([measure(run) for run in runs], axis=0)


def test_a_thick_line_is_the_median_and_a_thin_one_a_seed(runs, axes):
    courses = {0: [1.0, 2.0, 3.0], 1: [1.0, 5.0, 3.5], 2: [4.0, 9.0, 9.5]}
    plots.over_steps(runs, lambda run: courses[run.config.seed], axes, "label", color="red")
    thick, *thin = axes.lines
    assert thick.get_label() == "label" and thick.get_ydata().tolist() == [1.0, 5.0, 3.5]
    assert [line.get_ydata().tolist() for line in thin] == list(courses.values())
    assert all(line.get_xdata().tolist() == STEPS for line in axes.lines)
    assert thick.get_lw() > 2 > max(line.get_lw() for line in thin)
    assert {line.get_color() for line in axes.lines} == {"red"}
    assert axes.get_xlabel() == "steps of θ"


def test_a_single_run_is_one_line_and_points_may_be_means_of_epochs(runs, axes):
    plots.over_steps(runs[:1], lambda run: [1.0, 2.0, 6.0], axes, parts=1)  # of two epochs
    (line,) = axes.lines
    assert line.get_ydata() == pytest.approx([1.0, 1.5, 4.0])


def test_names_stand_behind_the_medians_and_apart(runs, axes):
    for name, value in (("low", 1.0), ("middle", 1.01), ("high", 3.0)):
        plots.over_steps(runs, lambda run, value=value: [0.0, 0.0, value], axes, name)
    plots.label_lines(axes)
    places = {text.get_text(): text.xy for text in axes.texts}
    assert {x for x, _ in places.values()} == {STEPS[-1]}
    assert places["low"][1] == 1.0 and places["high"][1] == 3.0
    assert places["middle"][1] > 1.1


def test_none_probability_has_a_median_and_seeds_for_every_edge(runs, axes):
    plots.none_probability(runs, axes)
    assert [line.get_label() for line in medians(axes)] == EDGES
    assert len(axes.lines) == 5 * (1 + SEEDS)
    assert sorted(text.get_text() for text in axes.texts) == sorted(EDGES)
    assert len({(line.get_color(), line.get_linestyle()) for line in medians(axes)}) == 5
    for line, edge in zip(medians(axes), EDGES, strict=True):
        expected = median(lambda run, edge=edge: run.none_probability.sel(edge=edge), runs)
        assert np.allclose(line.get_ydata(), expected)


def test_output_cost_is_that_of_a_split_or_of_what_alpha_learns_from(runs, axes):
    plots.output_cost(runs, axes, "valid", label="valid set", color="red")
    plots.output_cost(runs, axes)
    valid, measured = medians(axes)
    assert valid.get_label() == "valid set" and valid.get_color() == "red"
    expected = median(lambda run: run.output_cost.sel(split="valid"), runs)
    assert np.allclose(valid.get_ydata(), expected)
    assert np.allclose(measured.get_ydata(), median(measured_cost, runs))


def test_active_edges_are_those_that_are_not_dropped(runs, axes):
    arms = {
        "up": [keeping(run, 5, n, 4) for n, run in enumerate(runs)],
        "down": [keeping(run, 5, 3, 0) for run in runs],
    }
    plots.active_edges(arms, axes)
    up, down = medians(axes)
    assert up.get_ydata().tolist() == [5, 1, 4] and down.get_ydata().tolist() == [5, 3, 0]
    assert len(axes.lines) == 2 * (1 + SEEDS) and labels(axes) == ["up", "down"]
    assert up.get_color() != down.get_color() and up.get_linestyle() != down.get_linestyle()
    _, alone = plt.subplots()
    assert plots.active_edges({"up": arms["up"]}, alone).get_legend() is None


def test_every_arm_has_a_line_that_differs_from_the_others(runs, axes):
    plots.active_edges({str(arm): runs[:1] for arm in range(16)}, axes)
    looks = {(line.get_color(), line.get_linestyle()) for line in medians(axes)}
    assert len(looks) == len(medians(axes)) == 16


# Machado et al. 2009, at full severity, on linear RGB; and Oklab.
SEEN_WITHOUT = {
    "nothing": np.eye(3),
    "green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}
LMS = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


@pytest.mark.parametrize("cone", SEEN_WITHOUT)
def test_colours_differ_to_those_who_lack_a_cone(cone):
    """By 0.1 in Oklab, five times what is just seen; and by 3:1 from white."""
    rgb = np.array([to_rgb(colour) for colour in plots.COLOURS])
    linear = np.where(rgb < 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert (1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 3).all()
    seen = np.clip(linear @ np.transpose(SEEN_WITHOUT[cone]), 0, 1)
    lab = np.cbrt(seen @ np.transpose(LMS)) @ np.transpose(OKLAB)
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 0.1


DRAWS = r"plt\.(subplot|figure)|edge_by_edge|plots\.(growth|none_probability|outcome_shares)\("
DRAW = "def draw("


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_figure_has_a_caption_and_words_in_its_place(path):
    """The playground's figures are drawn again and again, by a function: they have neither."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and re.search(DRAWS, cell.source) and DRAW not in cell.source:
            said = cell.metadata.mystnb
            assert len(said.figure.caption) > 40 and len(said.image.alt) > 20


def test_growth_has_edges_above_and_the_cost_that_alpha_sees_below(runs):
    above, below = plots.growth({"one": runs, "two": runs[:2]}).axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("active edges", "L − H  [nat]")
    assert above.get_xlabel() == "" and below.get_xlabel() == "steps of θ"
    assert [np.allclose(line.get_ydata(), 5) for line in medians(above)] == [True, True]
    first, second = medians(below)
    assert np.allclose(first.get_ydata(), median(measured_cost, runs))
    assert np.allclose(second.get_ydata(), median(measured_cost, runs[:2]))
    assert [line.get_color() for line in medians(above)] == [first.get_color(), second.get_color()]
    later = np.concatenate([measured_cost(run)[1:] for run in runs])
    low, high = below.get_ylim()
    assert low < min(later.min(), plots.COST[0] + 1e-9)
    assert high > max(later.max(), plots.COST[1] - 1e-9)


def widths(ax, space):
    """Of the arrow of each edge of a cell."""
    arrows = [patch for patch in ax.patches if hasattr(patch, "get_arrowstyle")]
    edges = sorted(
        [*space.edges, *((node, space.inputs + space.nodes) for node in space.output_nodes)]
    )
    found = dict(zip(edges, (arrow.get_linewidth() for arrow in arrows), strict=True))
    return [found[edge] for edge in space.edges]


@pytest.mark.parametrize("space", [SearchSpace(inputs=1), SearchSpace(nodes=4)])
def test_a_cell_shows_every_edge_and_output_link(space, axes):
    plots.cell(space, axes)
    arrows = [patch for patch in axes.patches if hasattr(patch, "get_arrowstyle")]
    assert len(arrows) == len(space.edges) + space.nodes


def test_an_edge_is_as_wide_as_its_share(axes):
    space = SearchSpace()
    plots.cell(space, axes, [1, 0, 0.5, 0.25, 1])
    assert widths(axes, space) == [3.8, 0.8, pytest.approx(2.3), pytest.approx(1.55), 3.8]


def test_a_wiring_names_its_operations_and_its_epoch(runs, axes):
    plots.wiring(runs[0], 2, axes)
    assert axes.get_title() == "epoch 2"
    texts = [text.get_text() for text in axes.texts]
    short = {"skip_connect": "skip", "max_pool_3x3": "max 3x3", "dil_conv_5x5": "dil 5x5"}
    for name in runs[0].wiring.operations:
        assert name == "none" or short.get(name, f"{name[:3]} {name[-3:]}") in texts


def test_outcomes_tell_right_from_wrong_and_show_the_most_there_can_be(runs, axes, notebook_cells):
    page = notebook_cells("right_and_wrong", "right_and_wrong-outcomes", np=np, plots=plots)
    page["outcomes"](runs, "valid", axes)
    named = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    assert list(named) == ["L, right", "H, right", "L, wrong", "H, wrong", "H, uniform"]
    for outcome in ("right", "wrong"):
        for letter, name in (("L", "loss"), ("H", "entropy")):
            found = named[f"{letter}, {outcome}"].get_ydata()
            values = [run.history[name].sel(split="valid", outcome=outcome) for run in runs]
            assert np.allclose(found, np.nanmedian(values, axis=0), equal_nan=True)
    assert np.allclose(named["H, uniform"].get_ydata(), np.log(4))  # classes
    assert axes.get_title() == "valid set"


def test_right_and_wrong_answers_add_up_to_the_cost(runs, axes):
    plots.outcome_shares(runs[:1], "train", axes)
    right, wrong, together = medians(axes)
    assert np.allclose(right.get_ydata() + wrong.get_ydata(), together.get_ydata(), atol=1e-6)
    assert np.allclose(together.get_ydata(), runs[0].output_cost.sel(split="train"))
    assert (wrong.get_ydata() > right.get_ydata()).all()


def test_cost_is_the_sum_over_cells_in_millinats(runs, axes):
    plots.cost(runs, slice(1, None), axes)
    shown = axes.collections[0].get_array().reshape(5, 7)
    cost = np.stack([run.history.cost_mean.values[1:, 0, :, 1:] for run in runs])
    with np.errstate(invalid="ignore"):
        count = np.isfinite(cost).sum(axis=(0, 1))
        expected = 1000 * np.nansum(cost, axis=(0, 1)) / np.where(count, count, np.nan)
    assert np.allclose(np.ma.filled(shown, np.nan), expected, equal_nan=True, rtol=1e-4)


def test_edge_cost_is_the_mean_over_operations(runs, axes):
    runs = [
        Run(run.config, run.history.assign(cost_mean=run.history.cost_mean.fillna(0)), {})
        for run in runs
    ]
    plots.edge_cost(runs, axes, ["(0,2)", "(2,3)"])
    (first, second), zero = medians(axes), axes.lines[-1]
    assert [first.get_label(), second.get_label()] == ["(0,2)", "(2,3)"]
    cost = [run.history.cost_mean.values[:, 0, 4, 1:].mean(axis=1) for run in runs]
    assert np.allclose(second.get_ydata(), np.median(cost, axis=0))
    assert set(zero.get_ydata()) == {0}


def test_an_edge_that_is_never_drawn_hides_no_other(runs, axes):
    cost = runs[0].history.cost_mean.fillna(0)
    cost.loc[{"edge": "(0,2)"}] = np.nan
    plots.edge_cost([Run(runs[0].config, runs[0].history.assign(cost_mean=cost), {})], axes)
    assert np.isfinite(axes.get_ylim()).all() and len(axes.texts) == 5
    assert all(np.isfinite(text.xy).all() for text in axes.texts)


def test_a_wiring_of_a_search_that_diverged_is_a_word(runs, axes):
    plots.wiring(diverging(runs[1]), None, axes)
    assert [text.get_text() for text in axes.texts] == ["diverged"]


def test_a_search_that_ended_early_has_a_frame(axes):
    config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=50)
    run = search(config.replace(stop_when_stable=1), progress=False)
    assert run.last_epoch < 20
    plots.edge_cost([run], axes)
    plots.growth({"one": [run], "none left": [diverging(run)]})


def test_a_loss_that_diverged_alone_leaves_the_last_wiring(runs, axes):
    history = runs[0].history.copy(deep=True)
    history["loss"][2:] = np.nan
    history["seconds"][2:] = np.nan
    for name in ("alpha", "probability"):
        history[name][2:] = np.nan
    plots.wiring(Run(runs[0].config, history, {}), None, axes)
    assert axes.get_title() == "epoch 1"


def test_a_chosen_edge_is_as_wide_as_its_own_probability(runs, axes):
    run = runs[0]
    space, p = run.config.space, run.history.probability[-1]
    least = [str(p.operation[1:][k].item()) for k in p[:, 1:].argmin("operation").values]
    chosen = Run(run.config, run.history, {}, str(Wiring(space, tuple(least))))
    plots.wiring(chosen, None, axes)
    shares = p[:, 1:].min("operation").values
    assert np.allclose(widths(axes, space), 0.8 + 3 * shares)
