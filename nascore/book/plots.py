"""The figures. Each function draws on the axes it is given, or on new ones, and returns them.

A line is the mean over seeds; its band runs from the lowest to the highest seed.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import networkx
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from nascore.engine.space import SearchSpace, Wiring, edge_name, short_name
from nascore.runs.data import SPLITS
from nascore.runs.run import Run
from nascore.theory import topology

INPUT, INTERMEDIATE, OUTPUT = "#4477aa", "#ee6677", "#bbbbbb"
"""Colours of input edges, intermediate edges, and the fixed links to the output."""

COLOURS = sns.color_palette("colorblind")
"""Colours that tell arms, splits or outcomes apart."""


def set_style() -> None:
    """The look of every figure of the book."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (7.5, 4.0),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )


def over_epochs(
    curves: Sequence[xr.DataArray], ax: Axes | None = None, label: str | None = None, **style
) -> Axes:
    """One quantity over epochs: curves (epoch,), one a seed, as a mean line with its band."""
    ax = ax or plt.gca()
    values = np.stack([curve.values for curve in curves])  # (seeds, epochs + 1)
    epochs = curves[0].epoch.values
    (line,) = ax.plot(epochs, values.mean(axis=0), label=label, **style)
    low, high = values.min(axis=0), values.max(axis=0)
    ax.fill_between(epochs, low, high, color=line.get_color(), alpha=0.18, lw=0)
    ax.set_xlabel("epoch")
    return ax


def none_probability(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """p(none) of every edge over epochs."""
    ax = ax or plt.gca()
    space = runs[0].config.space
    for kind, edges, palette in (
        ("input", space.input_edges, "Blues"),
        ("intermediate", space.intermediate_edges, "Reds"),
    ):
        for colour, edge in zip(_shades(palette, len(edges)), edges, strict=True):
            curves = [run.none_probability.sel(edge=edge_name(edge)) for run in runs]
            over_epochs(curves, ax, f"{edge_name(edge)} {kind}", color=colour)
    ax.set(ylabel="p(none)", ylim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def active_edges(arms: Mapping[str, Sequence[Run]], ax: Axes | None = None) -> Axes:
    """Number of active edges over epochs, a line for each arm."""
    ax = ax or plt.gca()
    for colour, (arm, runs) in zip(COLOURS, arms.items(), strict=False):
        over_epochs([run.active_edges for run in runs], ax, arm, color=colour)
        edges = len(runs[0].config.space.edges)
    ax.set(ylabel="active edges", ylim=(-0.15, edges + 0.15))
    ax.yaxis.get_major_locator().set_params(integer=True)
    if len(arms) > 1:
        ax.legend()
    return ax


def output_cost(
    arms: Mapping[str, Sequence[Run]], splits: Sequence[str], ax: Axes | None = None
) -> Axes:
    """L - H over epochs, a colour for each arm and a line style for each split."""
    ax = ax or plt.gca()
    for colour, (arm, runs) in zip(COLOURS, arms.items(), strict=False):
        for dashes, split in zip(("-", "--", ":"), splits, strict=False):
            label = f"{arm}, {split} set" if len(arms) > 1 else f"{split} set"
            curves = [run.output_cost.sel(split=split) for run in runs]
            over_epochs(curves, ax, label, color=colour, linestyle=dashes)
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(ylabel="L − H  [nat]")
    ax.legend()
    return ax


def loss_and_entropy(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """L (solid) and H (dashed) over epochs, a colour for each split that has examples."""
    ax = ax or plt.gca()
    for colour, split in zip(COLOURS, SPLITS, strict=False):
        if runs[0].config.sizes[split]:
            losses = [run.mean_loss.sel(split=split) for run in runs]
            entropies = [run.mean_entropy.sel(split=split) for run in runs]
            over_epochs(losses, ax, f"L, {split} set", color=colour)
            over_epochs(entropies, ax, f"H, {split} set", color=colour, linestyle="--")
    ax.set(ylabel="L and H  [nat]", ylim=(0, None))
    ax.legend(fontsize="small")
    return ax


def outcomes(runs: Sequence[Run], split: str, ax: Axes | None = None) -> Axes:
    """L (solid) and H (dashed) of a split over epochs, of right and of wrong answers."""
    ax = ax or plt.gca()
    for colour, outcome in ((COLOURS[2], "right"), (COLOURS[3], "wrong")):
        for name, letter, dashes in (("loss", "L", "-"), ("entropy", "H", "--")):
            chosen = {"split": split, "outcome": outcome}
            curves = [run.history[name].sel(chosen) for run in runs]
            over_epochs(curves, ax, f"{letter}, {outcome}", color=colour, linestyle=dashes)
    ax.set(ylabel="L and H  [nat]", title=f"{split} set")
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


def portrait(runs: Sequence[Run]) -> Figure:
    """What a set of searches did, in six panels.

    Above: p(none), the shape of the wiring, L and H on each split. Below: cost per edge and
    operation over the first and the last tenth of the epochs, and L - H.
    """
    figure, axes = plt.subplots(2, 3, figsize=(12, 7))
    (none, shape, losses), (first, last, difference) = axes
    none_probability(runs, none).legend(fontsize="x-small", loc="best")
    ended = [run for run in runs if not run.active_edges.isnull().any()]
    for name, measure, colour in (
        ("input edges (width)", topology.width, INPUT),
        ("intermediate edges", topology.intermediate_edges, INTERMEDIATE),
        ("depth", topology.depth, "0.3"),
    ):
        if curves := [topology.each_epoch(run, measure) for run in ended]:
            over_epochs(curves, shape, name, color=colour)
    shape.set(ylabel="edges", ylim=(-0.15, None))
    if ended:
        shape.legend(fontsize="small")
    loss_and_entropy(runs, losses)
    tenth = max(1, runs[0].config.epochs // 10)
    cost(runs, slice(0, tenth), first).set_title(f"cost, first {_epochs(tenth)}")
    cost(runs, slice(-tenth, None), last).set_title(f"cost, last {_epochs(tenth)}")
    splits = [split for split in SPLITS if runs[0].config.sizes[split]]
    output_cost({"": runs}, splits, difference)
    return figure


def _epochs(number: int) -> str:
    return "epoch" if number == 1 else f"{number} epochs"


def evolution(run: Run, number: int = 4) -> Figure:
    """The wiring of one search at some epochs, from the first to the last."""
    epochs = np.unique(np.linspace(0, run.config.epochs, number).round().astype(int))
    return _grid([(run, int(epoch), f"epoch {epoch}") for epoch in epochs], columns=2)


def final_wirings(runs: Sequence[Run]) -> Figure:
    """The wirings that some searches end with."""
    return _grid([(run, run.config.epochs, f"seed {run.config.seed}") for run in runs], columns=4)


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


def cell(space: SearchSpace, ax: Axes | None = None) -> Axes:
    """A cell with all its edges: input edges, intermediate edges, links to the output."""
    return _draw(space, ax)


def _draw(
    space: SearchSpace,
    ax: Axes | None,
    chosen: Wiring | None = None,
    probability: Sequence[float] | None = None,
) -> Axes:
    ax = ax or plt.gca()
    graph = networkx.DiGraph()
    output = space.inputs + space.nodes
    for node in range(output + 1):
        graph.add_node(node, layer=max(0, node - space.inputs + 1))
    position = networkx.multipartite_layout(graph, subset_key="layer", scale=1.0)
    for n, node in enumerate(space.intermediate_nodes):  # off the axis, so that arcs do not hide
        position[node] = position[node] + np.array([0, 0.28 if n % 2 == 0 else -0.28])
    labels = {node: str(node) for node in range(output)} | {output: "out"}
    colours = [
        INPUT if node < space.inputs else OUTPUT if node == output else INTERMEDIATE
        for node in graph
    ]
    networkx.draw_networkx_nodes(graph, position, node_color=colours, node_size=420, ax=ax)
    networkx.draw_networkx_labels(graph, position, labels, font_color="white", font_size=9, ax=ax)

    def connect(edge, **style):
        networkx.draw_networkx_edges(
            graph, position, edgelist=[edge], ax=ax, node_size=420, arrowsize=12, **style
        )

    for node in space.output_nodes:
        connect((node, output), edge_color=OUTPUT, width=1.0)
    for e, edge in enumerate(space.edges):
        colour = INPUT if edge in space.input_edges else INTERMEDIATE
        if chosen is None:
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


def _shades(palette: str, number: int) -> list:
    """Shades of one colour, none of them too light to see."""
    return sns.color_palette(palette, number + 2)[2:]
