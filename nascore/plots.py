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

from nascore.records import Run
from nascore.space import SearchSpace, Wiring, edge_name

INPUT, INTERMEDIATE, OUTPUT = "#4477aa", "#ee6677", "#bbbbbb"
"""Colours of input edges, intermediate edges, and the fixed links to the output."""

ARMS = sns.color_palette("colorblind")


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
    for colour, (arm, runs) in zip(ARMS, arms.items(), strict=False):
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
    for colour, (arm, runs) in zip(ARMS, arms.items(), strict=False):
        for dashes, split in zip(("-", "--", ":"), splits, strict=False):
            label = f"{arm}, {split} set" if len(arms) > 1 else f"{split} set"
            curves = [run.output_cost.sel(split=split) for run in runs]
            over_epochs(curves, ax, label, color=colour, linestyle=dashes)
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(ylabel="L − H  [nat]")
    ax.legend()
    return ax


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
                {edge: chosen[edge].replace("_", " ")},
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
