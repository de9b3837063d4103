"""The figures. Each function draws on the axes it is given, or on new ones, and returns them.

A thin line is one seed, the thick one of its colour is the median over seeds. Time is counted in
steps of theta, so that searches whose epochs have different lengths share a time line.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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

from nascore.engine.space import SearchSpace, edge_name, short_name
from nascore.evidence.analyses import mean_over_operations
from nascore.evidence.experiments import NOT_HELD_OUT, ONE_OF_FEWER, TWO
from nascore.evidence.growth import alpha_of, dropped, kept_edges, turn
from nascore.evidence.phenomena import measured_cost
from nascore.runs.run import Run

INPUT, INTERMEDIATE, OUTPUT = "#4477aa", "#ee6677", "#bbbbbb"
"""Colours of input edges, intermediate edges, and the fixed links to the output."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#7f7f7f", "#56b4e9")
"""Colours that tell arms, splits or outcomes apart, also to the colour-blind."""

DASHES = ("-", "--", "-.", ":")
"""Line styles that tell the same apart once more."""


def styles() -> Iterator[dict[str, str]]:
    """The style of each line in turn, as matplotlib has it."""
    pairs = zip(cycle(COLOURS), cycle(DASHES), strict=False)
    return ({"color": colour, "linestyle": dashes} for colour, dashes in pairs)


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
    series = {n: pandas.Series(np.asarray(measure(run))) for n, run in enumerate(runs)}
    values = pandas.DataFrame(series)  # NaN where a search has stopped early
    values.index *= config.sizes["train"] // config.batch_size
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
    y, gap = -np.inf, 0.06 * (high - low)
    style = {"va": "center", "fontsize": "small", "annotation_clip": False}
    pairs = zip(names, lines, strict=True)
    for name, line in sorted(pairs, key=lambda pair: pair[1].get_ydata()[-1]):
        y, colour = max(line.get_ydata()[-1], y + gap), line.get_color()
        end = line.get_xdata()[-1], y
        ax.annotate(name, end, (6, 0), textcoords="offset points", color=colour, **style)


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
    only: Collection[str] = (),
    smooth: int = 1,
) -> list[str]:
    """Draws a line for each edge, or for some; returns their names."""
    space, names = runs[0].config.space, []
    for edges, colours in (
        (space.input_edges, ("#0072b2", "#56b4e9", "#332288", "#44aa99")),
        (space.intermediate_edges, ("#d55e00", "#cc3311", "#aa4499", "#994455")),
    ):
        for edge, colour, dashes in zip(edges, cycle(colours), cycle(DASHES), strict=False):
            name = edge_name(edge)
            if not only or name in only:
                names.append(name)
                style = {"color": colour, "linestyle": dashes}
                over_steps(runs, lambda r, n=name: measure(r, n), ax, name, smooth, **style)
    return names


def active_edges(arms: Mapping[str, Sequence[Run]], ax: Axes | None = None) -> Axes:
    """Number of edges that are not dropped, a colour and a line style for each arm."""
    ax = ax or plt.gca()
    for (arm, runs), style in zip(arms.items(), styles(), strict=False):
        over_steps(runs, kept_edges, ax, arm, **style)
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
            label = f"{arm}, {split} set" if len(arms) > 1 else f"{split} set"
            colour = COLOURS[(n if len(arms) > 1 else m) % len(COLOURS)]
            style = {"color": colour, "linestyle": DASHES[m % len(DASHES)]}
            _smooth(runs, lambda r, s=split: r.output_cost.sel(split=s), ax, label, **style)
    _at_zero(ax)
    ax.legend(fontsize="small")
    return ax


def _smooth(runs: Sequence[Run], measure: Callable, ax: Axes, label: str = "", **style) -> None:
    """``over_steps``, each point the mean of a sixtieth of the search."""
    over_steps(runs, measure, ax, label or None, max(1, runs[0].config.epochs // 60), **style)


def _at_zero(ax: Axes, label: str = "L − H  [nat]") -> None:
    ax.axhline(0, color="0.3", lw=0.8)
    ax.set(ylabel=label)


def growth(arms: Mapping[str, Sequence[Run]]) -> Figure:
    """Active edges, and below them L - H on the examples that alpha learns from."""
    figure, above = _above_the_cost(arms, styles())
    active_edges(arms, above).set_xlabel("")
    return figure


def edge_by_edge(runs: Sequence[Run]) -> Figure:
    """p(none) of every edge, and below it L - H on the examples that alpha learns from."""
    figure, above = _above_the_cost({"": runs}, [{"color": "0.2"}])
    none_probability(runs, above).set_xlabel("")
    return figure


def _above_the_cost(
    arms: Mapping[str, Sequence[Run]], styles: Iterable[dict[str, str]]
) -> tuple[Figure, Axes]:
    """A figure with L - H on the examples that alpha learns from, and the axes above it."""
    figure, (above, below) = plt.subplots(2, figsize=(7.5, 6.2), sharex=True, height_ratios=(3, 2))
    for runs, style in zip(arms.values(), styles, strict=False):
        _smooth(runs, measured_cost, below, **style)
    _at_zero(below)
    _zoom(below, arms)
    return figure, above


def _zoom(ax: Axes, arms: Mapping[str, Sequence[Run]]) -> None:
    """Leaves out of sight what L - H does in the first twentieth of the epochs."""
    every = [run for runs in arms.values() for run in runs]
    values = np.concatenate(
        [measured_cost(run)[max(1, run.config.epochs // 20) :] for run in every]
    )
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
        kept = [~dropped(alpha_of(run)) for run in runs]  # (epochs + 1, edges) each
        turns = [turn(measured_cost(run)) for run in runs]
        when = {"start": [0] * len(runs), "turn": turns, "end": [-1] * len(runs)}
        for ax, (name, epochs) in zip(small[3 * n : 3 * n + 3], when.items(), strict=True):
            share = np.mean([k[e] for k, e in zip(kept, epochs, strict=True)], axis=0)
            _draw(runs[0].config.space, ax, [(0.8 + 3 * s, s < 0.05) for s in share], small=True)
            ax.set_title(f"{name}: {share.sum():.1f}", fontsize="small")
        above, below = axes[:, n]
        active_edges({title: runs}, above)
        for line in above.lines:
            line.set_color(colour)
        above.set(xlabel="", title=title, ylabel="active edges" if n == 0 else "")
        _smooth(runs, measured_cost, below, color=colour)
        _at_zero(below)
        below.set(ylabel="L − H  [nat]" if n == 0 else "")
    _zoom(axes[1, 0], {arm: arms[arm] for arm in PICTURE})
    return figure


def edge_cost(runs: Sequence[Run], ax: Axes | None = None, edges: Collection[str] = ()) -> Axes:
    """Cost of an operation on each edge: mean over all but `none`, summed over cells.

    Each point is the mean of a twentieth of the search. The first fifth may leave the frame.
    """
    ax = ax or plt.gca()
    smooth = max(1, runs[0].config.epochs // 20)
    names = _edges_over_steps(
        runs, lambda run, name: mean_over_operations(run.history, name), ax, edges, smooth
    )
    later = np.stack([line.get_ydata()[runs[0].config.epochs // 5 :] for line in ax.lines])
    ax.set_ylim(1.1 * later.min(), 1.1 * later.max())
    _at_zero(ax, "cost of an operation  [nat]")
    label_lines(ax, names)
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

            _smooth(runs, one, ax, f"{letter}, {outcome}", color=colour, linestyle=dashes)
    uniform = np.log(runs[0].config.meaning["classes"])
    ax.axhline(uniform, color="0.3", lw=1, ls=":", label="H, uniform")
    ax.set(ylabel="L and H  [nat]", title=f"{split} set")
    return ax


def outcome_shares(runs: Sequence[Run], split: str, ax: Axes | None = None) -> Axes:
    """What right and wrong answers add to L - H: the two sum to the black line, which is L - H."""
    ax = ax or plt.gca()

    def part(run: Run, outcome: str) -> xr.DataArray:
        history = run.history.sel(split=split)
        share = history.examples / history.examples.sum("outcome")
        return ((history.loss - history.entropy).fillna(0) * share).sel(outcome=outcome)

    for colour, outcome, dashes in ((COLOURS[2], "right", "-"), (COLOURS[3], "wrong", "--")):
        style = {"color": colour, "linestyle": dashes}
        _smooth(runs, lambda r, o=outcome: part(r, o), ax, f"{outcome} answers", **style)
    _smooth(runs, lambda run: run.output_cost.sel(split=split), ax, "together", color="0.1")
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


def evolution(run: Run, epochs: Sequence[int]) -> Figure:
    """The wiring of one search after some epochs."""
    columns = 3 if len(epochs) == 3 else 2
    return _grid([(run, epoch, f"epoch {epoch}") for epoch in epochs], columns)


def final_wirings(runs: Sequence[Run]) -> Figure:
    """The wirings that some searches end with."""
    return _grid([(run, None, f"seed {run.config.seed}") for run in runs], columns=2)


def _grid(wirings: Sequence[tuple[Run, int | None, str]], columns: int) -> Figure:
    columns = min(columns, len(wirings))
    rows = -(-len(wirings) // columns)
    width = 4.7 if columns < 3 else 3.3
    size = (width * columns, 0.66 * width * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (run, epoch, title) in zip(axes.flat, wirings, strict=False):
        if run.active_edges[-1 if epoch is None else epoch].isnull():
            ax.text(0.5, 0.5, "diverged", ha="center")
        else:
            wiring(run, epoch, ax)
        ax.set_title(title, fontsize="medium")
    return figure


def wiring(run: Run, epoch: int | None, ax: Axes | None = None) -> Axes:
    """The wiring after an epoch; None for the final one, which the framework may have chosen.

    An edge is as wide as the probability of its most probable operation, which it names; it is
    faint and dashed if that operation is `none`.
    """
    names = (run.wiring if epoch is None else run.wiring_at(epoch)).operations
    epoch = run.last_epoch if epoch is None else epoch
    best = run.history.probability.sel(epoch=epoch).max("operation").values
    pairs = zip(names, best, strict=True)
    looks = [(1.0, True) if name == "none" else (0.5 + 4 * float(p), False) for name, p in pairs]
    ax = _draw(run.config.space, ax, looks, names)
    ax.set_title(f"epoch {epoch}", fontsize="medium")
    return ax


def cell(space: SearchSpace, ax: Axes | None = None, removed: Collection[str] = ()) -> Axes:
    """A cell: input edges, intermediate edges, links to the output; removed edges are dashed."""
    kept = (3.8, False) if removed else (1.8, False)
    looks = [(0.8, True) if edge_name(edge) in removed else kept for edge in space.edges]
    return _draw(space, ax, looks, small=bool(removed))


def _draw(
    space: SearchSpace,
    ax: Axes | None,
    looks: Sequence[tuple[float, bool]],
    names: Sequence[str] = (),
    small: bool = False,
) -> Axes:
    """A cell.

    Arguments:
        looks: of each edge, its width, and whether it is faint and dashed.
        names: the operation of each edge, to be written on it.
        small: for a row of small cells.
    """
    ax = ax or plt.gca()
    graph = networkx.DiGraph()
    output = space.inputs + space.nodes
    for node in range(output + 1):
        graph.add_node(node, layer=max(0, node - space.inputs + 1))
    position = networkx.multipartite_layout(graph, subset_key="layer", scale=1.0)
    for n, node in enumerate(space.intermediate_nodes):  # off the axis, so that arcs do not hide
        position[node] = position[node] + np.array([0, 0.28 if n % 2 == 0 else -0.28])
    labels = {node: str(node) for node in range(output)} | {output: "" if small else "out"}
    colours = [
        INPUT if node < space.inputs else OUTPUT if node == output else INTERMEDIATE
        for node in graph
    ]
    size = 130 if small else 420
    networkx.draw_networkx_nodes(graph, position, node_color=colours, node_size=size, ax=ax)
    font = {"font_color": "white", "font_size": 6 if small else 9}
    networkx.draw_networkx_labels(graph, position, labels, ax=ax, **font)

    def connect(edge: tuple[int, int], colour: str, width: float, **style) -> None:
        style |= {"edge_color": colour, "width": width, "node_size": size, "arrowsize": 12}
        networkx.draw_networkx_edges(graph, position, edgelist=[edge], ax=ax, **style)

    for node in space.output_nodes:
        connect((node, output), OUTPUT, 1.0)
    box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75}
    for e, (edge, (width, faint)) in enumerate(zip(space.edges, looks, strict=True)):
        style = {"alpha": 0.25, "style": "dashed"} if faint else {}
        connect(edge, INPUT if edge in space.input_edges else INTERMEDIATE, width, **style)
        if names and names[e] != "none":
            text = {edge: short_name(names[e]).replace("_", " ")}
            style = {"font_size": 6.5, "label_pos": 0.45, "bbox": box}
            networkx.draw_networkx_edge_labels(graph, position, text, ax=ax, **style)
    ax.margins(0.12)
    ax.set_axis_off()
    return ax
