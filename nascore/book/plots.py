"""The figures. Each function draws on the axes it is given, or on new ones, and returns them.

A thin line is one seed, the thick one of its colour is the median over seeds. Time is counted in
steps of theta, so that searches whose epochs have different lengths share a time line.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count

import matplotlib.pyplot as plt
import networkx
import numpy as np
import pandas
import seaborn as sns
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nascore.engine.space import SearchSpace, edge_name, short_name
from nascore.evidence.analyses import mean_over_operations
from nascore.evidence.experiments import flat
from nascore.evidence.growth import kept_edges
from nascore.evidence.phenomena import measured_cost
from nascore.runs.run import Run

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#882255")
"""Colours that tell arms, splits or outcomes apart, also to the colour-blind."""

DASHES = ("-", "--", "-.", ":")
"""Line styles that tell the same apart once more."""

INPUT, INTERMEDIATE, OUTPUT = COLOURS[0], COLOURS[1], "#777777"
"""Colours of input edges, intermediate edges, and the fixed links to the output."""

OPERATIONS = (COLOURS[2], "#c97a00", COLOURS[1], "#3d9bd9", "#b06fc4", "#c2408f", COLOURS[0])
"""Colours of operations other than `none`, on a light page and on a dark one."""

EARNS, COSTS = "#3b82d6", "#d6504b"
"""Colours of a cost below 0 and of one above."""

COST = (-0.6, 1.3)
"""The scale of L - H, in nats, of figures that can be compared."""


def styles(colours: Sequence[str] = COLOURS) -> Iterator[dict[str, str]]:
    """The style of each line in turn, as matplotlib has it: 16 lines of four colours differ."""
    n = len(colours)
    looks = ((colours[i % n], DASHES[(i % n + i // n) % len(DASHES)]) for i in count())
    return ({"color": colour, "linestyle": dashes} for colour, dashes in looks)


def set_style() -> None:
    """The look of every figure of the book."""
    settings = {
        "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
        "figure.figsize": (6.4, 3.8),  # small, so that letters are large on a phone
        "figure.dpi": 130,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.handlelength": 2.8,  # room for dashes
    }
    sns.set_theme(style="ticks", rc=settings)


def over_steps(
    runs: Sequence[Run],
    measure: Callable[[Run], ArrayLike],
    ax: Axes | None = None,
    label: str | None = None,
    parts: int | None = None,
    **style,
) -> Axes:
    """One quantity over the steps of theta: a thin line for each run, a thick one for the median.

    Arguments:
        runs: of one config, but for the seed.
        measure: of a run, to its values after every epoch, (epochs + 1,).
        parts: each point is the mean over one of so many parts of the search; None: no mean.
        style: of the lines, as matplotlib has it.
    """
    ax = ax or plt.gca()
    config = runs[0].config
    values = pandas.DataFrame([np.asarray(measure(run)) for run in runs]).T  # (epochs + 1, seeds)
    values.index *= config.sizes["train"] // config.batch_size
    if parts:
        window = max(1, config.epochs // parts)
        values = values.rolling(window, center=True, min_periods=1).mean()
    (line,) = ax.plot(values.median(axis=1), label=label, lw=2.2, **style)
    if len(runs) > 1:
        ax.plot(values, "-", color=line.get_color(), lw=0.6, alpha=0.35, zorder=1)
    ax.set_xlabel("steps of θ")
    return ax


def label_lines(ax: Axes) -> None:
    """Writes each line's label behind its end, apart from the next one, in place of a legend."""
    lines, _ = ax.get_legend_handles_labels()
    y, gap = -np.inf, 0.06 * np.ptp(ax.get_ylim())
    style = {"va": "center", "fontsize": "small", "annotation_clip": False}
    heights = {line: np.nan_to_num(line.get_ydata()[-1]) for line in lines}  # NaN: never drawn
    for line in sorted(lines, key=heights.get):
        y = max(heights[line], y + gap)
        end, style["color"] = (line.get_xdata()[-1], y), line.get_color()
        ax.annotate(line.get_label(), end, (6, 0), textcoords="offset points", **style)


def _edge_styles(space: SearchSpace) -> dict[str, dict[str, str]]:
    """The line of each edge: input edges blue, intermediate edges red, each with its dashes."""
    inputs, inner = styles([INPUT]), styles([INTERMEDIATE])
    return {edge_name(e): next(inputs if e in space.input_edges else inner) for e in space.edges}


def none_probability(runs: Sequence[Run], ax: Axes | None = None) -> Axes:
    """p(none) of every edge: input edges blue, intermediate edges red, each with its dashes."""
    ax = ax or plt.gca()
    for name, style in _edge_styles(runs[0].config.space).items():
        over_steps(runs, lambda r, n=name: r.none_probability.sel(edge=n), ax, name, **style)
    ax.set(ylabel="p(none)", ylim=(0, 1.02))
    label_lines(ax)
    return ax


def edge_cost(runs: Sequence[Run], ax: Axes | None = None, edges: Collection[str] = ()) -> Axes:
    """Cost of an operation on each edge, or on some: mean over all but `none`, summed over cells.

    The first fifth of the search may leave the frame.
    """
    ax = ax or plt.gca()
    styles = _edge_styles(runs[0].config.space)
    for name in edges or styles:
        over_steps(
            runs, lambda r, n=name: mean_over_operations(r.history, n), ax, name, 20, **styles[name]
        )
    later = [line.get_ydata()[len(line.get_ydata()) // 5 :] for line in ax.lines]
    frame = 1.1 * np.nanpercentile(np.concatenate([(-1e-3, 1e-3), *later]), (0, 100))
    ax.set(ylabel="cost of an operation  [nat]", ylim=frame)
    ax.axhline(0, color="0.3", lw=0.8)
    label_lines(ax)
    return ax


def active_edges(arms: Mapping[str, Sequence[Run]], ax: Axes | None = None) -> Axes:
    """Number of edges that are not dropped, a colour and a line style for each arm."""
    ax = ax or plt.gca()
    for (arm, runs), style in zip(arms.items(), styles(), strict=False):
        over_steps(runs, kept_edges, ax, arm, **style)
    edges = max(len(runs[0].config.space.edges) for runs in arms.values())
    ax.set(ylabel="active edges", ylim=(-0.15, edges + 0.15))
    ax.yaxis.get_major_locator().set_params(integer=True)
    if len(arms) > 1:
        ax.legend(loc="best", fontsize="small", frameon=True, edgecolor="none")
    return ax


def output_cost(
    runs: Sequence[Run], ax: Axes | None = None, split: str | None = None, **style
) -> Axes:
    """L - H of a split, by default of the examples that alpha learns from.

    The style is of the lines, as matplotlib has it, and may hold a label.
    """
    ax = ax or plt.gca()
    measure = (lambda run: run.output_cost.sel(split=split)) if split else measured_cost
    over_steps(runs, measure, ax, parts=60, **style)
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(ylabel="L − H  [nat]")
    return ax


def zoom(ax: Axes, runs: Sequence[Run]) -> None:
    """The scale of L - H: wider than `COST` only for what comes after a twentieth of the epochs."""
    costs = [measured_cost(run) for run in runs]
    later = np.concatenate([cost[max(1, len(cost) // 20) :] for cost in costs])
    low, high = np.nanpercentile(later, (0.2, 99.8)) if np.isfinite(later).any() else COST
    margin = 0.08 * (high - low) + 1e-3
    ax.set_ylim(min(low - margin, COST[0]), max(high + margin, COST[1]))


ABOVE_THE_COST = {"nrows": 2, "figsize": (6.4, 5.6), "sharex": True, "height_ratios": (3, 2)}


def growth(arms: Mapping[str, Sequence[Run]]) -> Figure:
    """Active edges, and below them L - H on the examples that alpha learns from."""
    figure, (above, below) = plt.subplots(**ABOVE_THE_COST)
    active_edges(arms, above).set_xlabel("")
    for runs, style in zip(arms.values(), styles(), strict=False):
        output_cost(runs, below, **style)
    zoom(below, flat(arms))
    return figure


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for panels that show the same lines: that of the first, below them all."""
    lines = figure.axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=columns, fontsize="small")


def outcome_shares(runs: Sequence[Run], split: str, ax: Axes | None = None) -> Axes:
    """What right and wrong answers add to L - H, the black line: in each seed the two sum to it."""
    ax = ax or plt.gca()
    for colour, outcome, dashes in ((COLOURS[2], "right", "-"), (COLOURS[3], "wrong", "--")):

        def part(run: Run, outcome: str = outcome) -> xr.DataArray:
            history = run.history.sel(split=split)
            share = history.examples / history.examples.sum("outcome")
            return ((history.loss - history.entropy).fillna(0) * share).sel(outcome=outcome)

        over_steps(runs, part, ax, f"{outcome} answers", 60, color=colour, ls=dashes)
    output_cost(runs, ax, split, label="together", color="0.1")
    ax.set(ylabel="part of L − H  [nat]", title=f"{split} set")
    return ax


def cost(runs: Sequence[Run], epochs: slice, ax: Axes | None = None) -> Axes:
    """Cost per edge and operation: summed over cells, mean over epochs and seeds.

    Red costs, blue earns, grey was never drawn.
    """
    ax = ax or plt.gca()
    values = xr.concat([run.history.cost_mean.isel(epoch=epochs) for run in runs], "seed")
    values = 1000 * values.mean(["seed", "epoch"]).sum("cell", min_count=1)
    values = values.sel(operation=values.operation != "none")
    frame = values.to_pandas().rename(columns=_words)
    bar = {"label": "cost  [millinat]"}
    colours = sns.blend_palette([EARNS, "#f2f2f2", COSTS], as_cmap=True)
    ax.set_facecolor("0.8")
    sns.heatmap(frame, ax=ax, norm=CenteredNorm(), cmap=colours, linewidths=0.5, cbar_kws=bar)
    ax.set(xlabel="", ylabel="")
    plt.setp(ax.get_yticklabels(), rotation=0)
    plt.setp(ax.get_xticklabels(), rotation=40, ha="right")
    return ax


def _words(operation: str) -> str:
    """As in a small figure: "max 3x3"."""
    return re.sub("_(pool|conv|connect)", "", short_name(operation)).replace("_", " ")


def wiring(run: Run, epoch: int | None = None, ax: Axes | None = None) -> Axes:
    """The wiring after an epoch; None for the final one, which the framework may have chosen.

    An edge is as wide as the probability of its operation, which it names; it is faint and dashed
    if that operation is `none`.
    """
    ax = ax or plt.gca()
    at = run.last_epoch if epoch is None else epoch
    ax.set_title(f"epoch {at}", fontsize="medium")
    if run.active_edges.sel(epoch=at).isnull():
        ax.text(0.5, 0.5, "diverged", ha="center")
        ax.set_axis_off()
        return ax
    chosen = epoch is None and run.chosen is not None
    names = (run.wiring if chosen else run.wiring_at(at)).operations
    p = run.history.probability.sel(epoch=at).to_pandas()  # rows are edges
    shares = [p.loc[e, name] * (name != "none") for e, name in zip(p.index, names, strict=True)]
    return cell(run.config.space, ax, shares, names)


def cell(
    space: SearchSpace,
    ax: Axes | None = None,
    shares: Sequence[float] | None = None,
    names: Sequence[str] = (),
    small: bool = False,
) -> Axes:
    """A cell: input edges, intermediate edges, links to the output.

    Arguments:
        shares: of each edge, from 0, which is faint and dashed, to 1, which is wide.
        names: the operation of each edge, to be written on it.
        small: for a row of small cells.
    """
    ax = ax or plt.gca()
    graph, output = networkx.DiGraph(), space.inputs + space.nodes
    colours = [INPUT] * space.inputs + [INTERMEDIATE] * space.nodes + [OUTPUT]  # of each node
    for node in range(output + 1):
        graph.add_node(node, layer=max(0, node - space.inputs + 1))
    shares = [1 / 3] * len(space.edges) if shares is None else shares
    for (i, j), share in zip(space.edges, shares, strict=True):
        opacity, style = (0.25, "dashed") if share < 0.05 else (1, "solid")
        colour = to_rgba(colours[i], opacity)
        graph.add_edge(i, j, edge_color=colour, width=0.8 + 3 * share, style=style)
    for node in space.output_nodes:
        graph.add_edge(node, output, edge_color=OUTPUT, width=1.0, style="solid")
    position = networkx.multipartite_layout(graph, subset_key="layer", scale=1.0)
    for n, node in enumerate(space.intermediate_nodes):  # off the axis, so that arcs do not hide
        position[node] = position[node] + np.array([0, 0.28 if n % 2 == 0 else -0.28])
    for node in range(space.inputs):  # to the left, so that a name has room
        position[node] = position[node] - np.array([0.35, 0])
    labels = {node: str(node) for node in range(output)} | {output: "" if small else "out"}
    looks = {"labels": labels, "font_color": "white", "node_color": colours, "arrowsize": 12}
    for name in ("edge_color", "width", "style"):
        looks[name] = [look for *_, look in graph.edges.data(name)]
    sizes = {"node_size": 80, "font_size": 6} if small else {"node_size": 420, "font_size": 10}
    networkx.draw_networkx(graph, position, ax=ax, **looks, **sizes)
    texts = {e: _words(n) for e, n in zip(space.edges, names, strict=False) if n != "none"}
    box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"}
    style = {"font_size": 9, "label_pos": 0.45, "bbox": box}
    networkx.draw_networkx_edge_labels(graph, position, texts, ax=ax, **style)
    ax.margins(0.12)
    ax.set_axis_off()
    return ax
