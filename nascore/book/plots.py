"""The figures. Each function draws on the axes it is given, or on new ones, and returns them.

A thin line is one seed, the thick one of its colour is the median over seeds. Time is counted in
steps of theta, so that searches whose epochs have different lengths share a time line.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle

import matplotlib.pyplot as plt
import networkx
import numpy as np
import pandas
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nascore.engine.space import SearchSpace, Wiring, edge_name, short_name
from nascore.evidence.analyses import mean_over_operations
from nascore.evidence.experiments import NOT_HELD_OUT, ONE_OF_FEWER, TWO
from nascore.evidence.growth import alpha_of, dropped, kept_edges, none_of, turn
from nascore.evidence.phenomena import cost_seen
from nascore.runs.data import SPLITS
from nascore.runs.datasets import DATASETS
from nascore.runs.run import Run
from nascore.theory import topology

INPUT, INTERMEDIATE, OUTPUT = "#4477aa", "#ee6677", "#bbbbbb"
"""Colours of input edges, intermediate edges, and the fixed links to the output."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#7f7f7f", "#56b4e9")
"""Colours that tell arms, splits or outcomes apart, also to the colour-blind."""

DASHES = ("-", "--", "-.", ":")
"""Line styles that tell the same apart once more."""


def set_style() -> None:
    """The look of every figure of the book."""
    sns.set_theme(context="notebook", style="ticks", palette=COLOURS)
    plt.rcParams.update(
        {
            "figure.figsize": (7.5, 4.0),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.handlelength": 2.8,  # room for dashes
        }
    )


def over_steps(
    runs: Sequence[Run],
    measure: Callable[[Run], ArrayLike],
    ax: Axes | None = None,
    label: str | None = None,
    smooth: int = 1,
    **style,
) -> Axes:
    """One quantity over the steps of theta: a thin line for each run, a thick one for the median.

    Arguments:
        runs: of one config, but for the seed.
        measure: of a run, to its values after every epoch, (epochs + 1,).
        smooth: epochs that each point is the mean of.
        style: of the lines, as matplotlib has it.
    """
    ax = ax or plt.gca()
    config = runs[0].config
    steps = np.arange(config.epochs + 1) * (config.sizes["train"] // config.batch_size)
    values = pandas.DataFrame({n: np.asarray(measure(run)) for n, run in enumerate(runs)}, steps)
    values = values.rolling(smooth, center=True, min_periods=1).mean()  # (epochs + 1, seeds)
    (line,) = ax.plot(values.median(axis=1), label=label, lw=2.2, **style)
    if len(runs) > 1:
        ax.plot(values, color=line.get_color(), lw=0.6, alpha=0.35, zorder=1)
    ax.set_xlabel("steps of θ")
    return ax


def label_lines(ax: Axes, names: Iterable[str]) -> None:
    """Writes each median's name behind its end, apart from the next one, in place of a legend."""
    lines = [line for line in ax.lines if line.get_lw() > 2]
    low, high = ax.get_ylim()
    gap, lowest = 0.06 * (high - low), -np.inf
    for name, line in sorted(
        zip(names, lines, strict=True), key=lambda pair: pair[1].get_ydata()[-1]
    ):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        lowest = max(y, lowest + gap)
        ax.annotate(
            name,
            (x, lowest),
            xytext=(6, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            fontsize="small",
            annotation_clip=False,
        )


def none_probability(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """p(none) of every edge: input edges blue, intermediate edges red, each with its dashes."""
    ax = ax or plt.gca()
    names = _edges_over_steps(runs, lambda run, name: run.none_probability.sel(edge=name), ax)
    ax.set(ylabel="p(none)", ylim=(0, 1.02))
    label_lines(ax, names)
    return ax


def _edges_over_steps(
    runs: Sequence[Run],
    measure: Callable[[Run, str], ArrayLike],
    ax: Axes,
    only: Sequence[str] | None = None,
    smooth: int = 1,
) -> list[str]:
    """A line for each edge, or for some: input edges blue, intermediate edges red. The names."""
    space = runs[0].config.space
    names = []
    for edges, colours in (
        (space.input_edges, ("#0072b2", "#56b4e9", "#332288", "#44aa99")),
        (space.intermediate_edges, ("#d55e00", "#cc3311", "#aa4499", "#994455")),
    ):
        for edge, colour, dashes in zip(edges, cycle(colours), cycle(DASHES), strict=False):
            name = edge_name(edge)
            if only is None or name in only:
                names.append(name)
                one = partial(measure, name=name)
                over_steps(runs, one, ax, name, smooth, color=colour, linestyle=dashes)
    return names


def active_edges(arms: Mapping[str, Sequence[Run]], ax: Axes | None = None) -> Axes:
    """Number of edges that are not dropped, a colour and a line style for each arm."""
    ax = ax or plt.gca()
    for (arm, runs), colour, dashes in zip(
        arms.items(), cycle(COLOURS), cycle(DASHES), strict=False
    ):
        over_steps(runs, kept_edges, ax, arm, color=colour, linestyle=dashes)
        edges = len(runs[0].config.space.edges)
    ax.set(ylabel="active edges", ylim=(-0.15, edges + 0.15))
    ax.yaxis.get_major_locator().set_params(integer=True)
    if len(arms) > 1:
        ax.legend(loc="best", fontsize="small")
    return ax


def output_cost(
    arms: Mapping[str, Sequence[Run]], splits: Sequence[str], ax: Axes | None = None
) -> Axes:
    """L - H, a colour for each arm and a line style for each split; of one arm, both by split."""
    ax = ax or plt.gca()
    for n, (arm, runs) in enumerate(arms.items()):
        for m, split in enumerate(splits):

            def difference(run: Run, split: str = split) -> xr.DataArray:
                return run.output_cost.sel(split=split)

            label = f"{arm}, {split} set" if len(arms) > 1 else f"{split} set"
            colour = COLOURS[(n if len(arms) > 1 else m) % len(COLOURS)]
            smooth = max(1, runs[0].config.epochs // 60)
            style = {"color": colour, "linestyle": DASHES[m % len(DASHES)]}
            over_steps(runs, difference, ax, label, smooth, **style)
    _at_zero(ax)
    ax.legend(fontsize="small")
    return ax


def _cost_over_steps(runs: Sequence[Run], ax: Axes, **style) -> None:
    """L - H on the examples that alpha sees, each point the mean of a sixtieth of the search."""
    over_steps(runs, cost_seen, ax, smooth=max(1, runs[0].config.epochs // 60), **style)


def _at_zero(ax: Axes) -> None:
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(ylabel="L − H  [nat]")


def growth(arms: Mapping[str, Sequence[Run]]) -> Figure:
    """Active edges, and below them L - H on the examples that alpha sees."""
    figure, (above, below) = plt.subplots(2, figsize=(7.5, 6.2), sharex=True, height_ratios=(3, 2))
    active_edges(arms, above).set_xlabel("")
    for runs, colour, dashes in zip(arms.values(), cycle(COLOURS), cycle(DASHES), strict=False):
        _cost_over_steps(runs, below, color=colour, linestyle=dashes)
    _at_zero(below)
    _zoom(below, arms)
    return figure


def edge_by_edge(runs: Sequence[Run]) -> Figure:
    """p(none) of every edge, and below it L - H on the examples that alpha sees."""
    figure, (above, below) = plt.subplots(2, figsize=(7.5, 6.2), sharex=True, height_ratios=(3, 2))
    none_probability(runs, above).set_xlabel("")
    _cost_over_steps(runs, below, color="0.2")
    _at_zero(below)
    _zoom(below, {"": runs})
    return figure


def _zoom(ax: Axes, arms: Mapping[str, Sequence[Run]]) -> None:
    """Leaves out of sight what L - H does in the first twentieth of the epochs."""
    everyone = [run for runs in arms.values() for run in runs]
    values = np.concatenate([cost_seen(r)[max(1, r.config.epochs // 20) :] for r in everyone])
    low, high = np.nanpercentile(values, (0.2, 99.8))
    margin = 0.08 * (high - low) + 1e-3
    ax.set_ylim(low - margin, high + margin)


PICTURE = {
    ONE_OF_FEWER: "one level",
    TWO: "two levels",
    NOT_HELD_OUT: "two levels, nothing held out",
}
"""The arms of the picture, in which only the level and what is held out differ, with titles."""


def picture(arms: Mapping[str, Sequence[Run]]) -> Figure:
    """The three phenomena in one setting: active edges, with the wiring above and L - H below.

    A wiring shows all seeds, at the start, each at its own turn (the epoch at which the running sum
    of L - H is highest), and at the end: an edge is as wide as the share of them that keep it.
    """
    figure = plt.figure(figsize=(11.5, 6.6))
    cells, curves = figure.subfigures(2, height_ratios=(1, 2.6))
    axes = curves.subplots(2, 3, sharex=True, sharey="row", height_ratios=(3, 2))
    small = cells.subplots(1, 9)
    for n, (arm, title) in enumerate(PICTURE.items()):
        runs, colour = arms[arm], COLOURS[n]
        when = {
            "start": [0] * len(runs),
            "turn": [turn(cost_seen(run)) for run in runs],
            "end": [-1] * len(runs),
        }
        for ax, (name, epochs) in zip(small[3 * n : 3 * n + 3], when.items(), strict=True):
            pairs = zip(runs, epochs, strict=True)
            share = np.mean([~dropped(alpha_of(r), none_of(r))[e] for r, e in pairs], axis=0)
            _draw(runs[0].config.space, ax, share=share)
            ax.set_title(f"{name}: {share.sum():.1f}", fontsize="small")
        above, below = axes[:, n]
        active_edges({title: runs}, above)
        for line in above.lines:
            line.set_color(colour)
        above.set(xlabel="", title=title, ylabel="active edges" if n == 0 else "")
        _cost_over_steps(runs, below, color=colour)
        _at_zero(below)
        below.set(ylabel="L − H  [nat]" if n == 0 else "")
    _zoom(axes[1, 0], {arm: arms[arm] for arm in PICTURE})
    return figure


def edge_cost(
    runs: Sequence[Run], ax: Axes | None = None, edges: Sequence[str] | None = None
) -> Axes:
    """Cost of an operation on each edge: mean over all but `none`, summed over cells.

    Each point is the mean of a twentieth of the search. The first fifth may leave the frame.
    """
    ax = ax or plt.gca()
    smooth = max(1, runs[0].config.epochs // 20)
    names = _edges_over_steps(
        runs, lambda run, name: mean_over_operations(run.history, name), ax, edges, smooth
    )
    later = np.stack([line.get_ydata()[runs[0].config.epochs // 5 :] for line in ax.lines])
    ax.set(ylabel="cost of an operation  [nat]", ylim=1.1 * np.array([later.min(), later.max()]))
    ax.axhline(0, color="0.3", lw=0.8)
    label_lines(ax, names)
    return ax


def loss_and_entropy(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """L (solid) and H (dashed), a colour for each split that has examples."""
    ax = ax or plt.gca()
    for colour, split in zip(COLOURS, SPLITS, strict=False):
        if runs[0].config.sizes[split]:
            for letter, values, dashes in (("L", "mean_loss", "-"), ("H", "mean_entropy", "--")):

                def one(run: Run, values: str = values, split: str = split) -> xr.DataArray:
                    return getattr(run, values).sel(split=split)

                over_steps(runs, one, ax, f"{letter}, {split} set", color=colour, linestyle=dashes)
    ax.set(ylabel="L and H  [nat]", ylim=(0, None))
    ax.legend(fontsize="small")
    return ax


def outcomes(runs: Sequence[Run], split: str, ax: Axes | None = None) -> Axes:
    """L (solid) and H (dashed) of a split, of right and of wrong answers.

    The dotted line is the entropy of a uniform prediction.
    """
    ax = ax or plt.gca()
    for colour, outcome in ((COLOURS[2], "right"), (COLOURS[3], "wrong")):
        for name, letter, dashes in (("loss", "L", "-"), ("entropy", "H", "--")):

            def one(run: Run, name: str = name, outcome: str = outcome) -> xr.DataArray:
                return run.history[name].sel(split=split, outcome=outcome)

            label, smooth = f"{letter}, {outcome}", max(1, runs[0].config.epochs // 60)
            over_steps(runs, one, ax, label, smooth, color=colour, linestyle=dashes)
    uniform = np.log(DATASETS[runs[0].config.dataset].classes)
    ax.axhline(uniform, color="0.3", lw=1, ls=":", label="H, uniform")
    ax.set(ylabel="L and H  [nat]", title=f"{split} set")
    return ax


def outcome_shares(runs: Sequence[Run], split: str, ax: Axes | None = None) -> Axes:
    """What right and wrong answers add to L - H: the two sum to the black line, which is L - H."""
    ax = ax or plt.gca()
    smooth = max(1, runs[0].config.epochs // 60)

    def part(run: Run, outcome: str) -> xr.DataArray:
        history = run.history.sel(split=split)
        share = history.examples / history.examples.sum("outcome")
        return ((history.loss - history.entropy).fillna(0) * share).sel(outcome=outcome)

    for colour, outcome, dashes in ((COLOURS[2], "right", "-"), (COLOURS[3], "wrong", "--")):
        one = partial(part, outcome=outcome)
        over_steps(runs, one, ax, f"{outcome} answers", smooth, color=colour, linestyle=dashes)
    over_steps(runs, lambda r: r.output_cost.sel(split=split), ax, "together", smooth, color="0.1")
    _at_zero(ax)
    ax.set(ylabel="part of L − H  [nat]", title=f"{split} set")
    return ax


def cost(runs: Sequence[Run], epochs: slice, ax: Axes | None = None) -> Axes:
    """Cost per edge and operation: summed over cells, mean over epochs and seeds.

    Red costs, blue earns. What was never drawn is left white.
    """
    ax = ax or plt.gca()
    values = xr.concat([run.history.cost_mean.isel(epoch=epochs) for run in runs], "seed")
    values = 1000 * values.mean(["seed", "epoch"]).sum("cell", min_count=1)
    values = values.sel(operation=values.operation != "none")
    frame = values.to_pandas().rename(columns=lambda name: short_name(name).replace("_", " "))
    bar = {"label": "cost  [millinat]"}
    sns.heatmap(frame, ax=ax, norm=CenteredNorm(), cmap="vlag", linewidths=0.5, cbar_kws=bar)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=40)
    for label in ax.get_xticklabels():
        label.set_ha("right")
    return ax


def shape(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """Width, intermediate edges and depth of the most probable wiring."""
    ax = ax or plt.gca()
    ended = [run for run in runs if not run.active_edges.isnull().any()]
    for name, measure, colour, dashes in (
        ("input edges (width)", topology.width, INPUT, "-"),
        ("intermediate edges", topology.intermediate_edges, INTERMEDIATE, "--"),
        ("depth", topology.depth, "0.3", ":"),
    ):

        def one(run: Run, measure: Callable[[Wiring], float] = measure) -> list[float]:
            return [measure(run.wiring_at(epoch)) for epoch in run.history.epoch.values]

        if ended:
            over_steps(ended, one, ax, name, color=colour, linestyle=dashes)
    ax.set(ylabel="edges", ylim=(-0.15, None))
    ax.legend(fontsize="small")
    return ax


def evolution(run: Run, epochs: Sequence[int] | None = None) -> Figure:
    """The wiring of one search after some epochs, by default four from the first to the last."""
    if epochs is None:
        epochs = np.unique(np.linspace(0, run.config.epochs, 4).round().astype(int)).tolist()
    columns = 3 if len(epochs) == 3 else 2
    return _grid([(run, epoch, f"epoch {epoch}") for epoch in epochs], columns)


def final_wirings(runs: Sequence[Run]) -> Figure:
    """The wirings that some searches end with."""
    return _grid([(run, run.config.epochs, f"seed {run.config.seed}") for run in runs], columns=2)


def _grid(shown: Sequence[tuple[Run, int, str]], columns: int) -> Figure:
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    width = 4.7 if columns < 3 else 3.3
    size = (width * columns, 0.66 * width * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (run, epoch, title) in zip(axes.flat, shown, strict=False):
        if run.active_edges.sel(epoch=epoch).isnull():
            ax.text(0.5, 0.5, "diverged", ha="center")
        else:
            wiring(run, epoch, ax)
        ax.set_title(title, fontsize="medium")
    return figure


def wiring(run: Run, epoch: int, ax: Axes | None = None) -> Axes:
    """The wiring after an epoch.

    An edge is as wide as the probability of its most probable operation, which it names; it is
    faint and dashed if that operation is `none`.
    """
    best = run.history.probability.sel(epoch=epoch).max("operation").values
    ax = _draw(run.config.space, ax, run.wiring_at(epoch), best)
    ax.set_title(f"epoch {epoch}", fontsize="medium")
    return ax


def cell(space: SearchSpace, ax: Axes | None = None, removed: Collection[str] = ()) -> Axes:
    """A cell: input edges, intermediate edges, links to the output; removed edges are dashed."""
    there = [float(edge_name(edge) not in removed) for edge in space.edges]
    return _draw(space, ax, share=there) if removed else _draw(space, ax)


def _draw(
    space: SearchSpace,
    ax: Axes | None,
    chosen: Wiring | None = None,
    probability: Sequence[float] | None = None,
    share: Sequence[float] | None = None,
) -> Axes:
    """A cell: all its edges, those of a wiring, or each as wide as the share that keeps it."""
    ax = ax or plt.gca()
    graph = networkx.DiGraph()
    output = space.inputs + space.nodes
    for node in range(output + 1):
        graph.add_node(node, layer=max(0, node - space.inputs + 1))
    position = networkx.multipartite_layout(graph, subset_key="layer", scale=1.0)
    for n, node in enumerate(space.intermediate_nodes):  # off the axis, so that arcs do not hide
        position[node] = position[node] + np.array([0, 0.28 if n % 2 == 0 else -0.28])
    labels = {node: str(node) for node in range(output)} | {output: "out" if share is None else ""}
    colours = [
        INPUT if node < space.inputs else OUTPUT if node == output else INTERMEDIATE
        for node in graph
    ]
    size = 420 if share is None else 130
    networkx.draw_networkx_nodes(graph, position, node_color=colours, node_size=size, ax=ax)
    style = {"font_color": "white", "font_size": 9 if share is None else 6}
    networkx.draw_networkx_labels(graph, position, labels, ax=ax, **style)

    def connect(edge, **style):
        networkx.draw_networkx_edges(
            graph, position, edgelist=[edge], ax=ax, node_size=size, arrowsize=12, **style
        )

    for node in space.output_nodes:
        connect((node, output), edge_color=OUTPUT, width=1.0)
    for e, edge in enumerate(space.edges):
        colour = INPUT if edge in space.input_edges else INTERMEDIATE
        if share is not None:
            kept = float(share[e])
            style = {"alpha": 0.25, "style": "dashed"} if kept < 0.05 else {}
            connect(edge, edge_color=colour, width=0.8 + 3 * kept, **style)
        elif chosen is None:
            connect(edge, edge_color=colour, width=1.8)
        elif chosen[edge] == "none":
            connect(edge, edge_color=colour, width=1.0, alpha=0.25, style="dashed")
        else:
            connect(edge, edge_color=colour, width=0.5 + 4 * float(probability[e]))
            networkx.draw_networkx_edge_labels(
                graph,
                position,
                {edge: short_name(chosen[edge]).replace("_", " ")},
                font_size=6.5,
                label_pos=0.45,
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
                ax=ax,
            )
    ax.margins(0.12)
    ax.set_axis_off()
    return ax
