"""The picture of README and of the first page: the three phenomena in one setting."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from nascore.book import plots
from nascore.evidence.experiments import NOT_HELD_OUT, ONE_OF_FEWER, TWO, flat, load_experiment
from nascore.evidence.growth import alpha_of, dropped, turn
from nascore.evidence.phenomena import measured_cost
from nascore.runs.run import Run
from nascore.sweeps.store import RunStore

ARMS = {
    ONE_OF_FEWER: "one level",
    TWO: "two levels",
    NOT_HELD_OUT: "two levels,\nnothing held out",
}
"""The arms of the picture, in which only the level and what is held out differ, with titles."""


def draw_picture(root: Path) -> Path:
    """Draws it from the book's records."""
    plots.set_style()
    path = root / "book" / "figures" / "picture.png"
    arms = load_experiment("picture", "published", RunStore(root / "book" / "records"))
    picture(arms).savefig(path, dpi=150, metadata={"Software": None})
    return path


def picture(arms: Mapping[str, Sequence[Run]]) -> Figure:
    """Active edges, with L - H and the wiring below.

    A wiring shows all seeds, at the start, each at its own turn (the epoch at which the running sum
    of L - H is highest), and at the end: an edge is as wide as the share of them that keep it.
    """
    figure = plt.figure(figsize=(7.2, 6.4))  # small, so that letters are large on a phone
    curves, cells = figure.subfigures(2, height_ratios=(3.4, 1))
    axes = curves.subplots(2, 3, sharex=True, sharey="row", height_ratios=(3, 2))
    small = cells.subplots(1, 9)
    for n, (arm, title) in enumerate(ARMS.items()):
        runs, colour = arms[arm], plots.COLOURS[n]
        kept = [~dropped(alpha_of(run)) for run in runs]  # (epochs + 1, edges) each
        turns = [turn(measured_cost(run)) for run in runs]
        when = {"start": [0] * len(runs), "turn": turns, "end": [-1] * len(runs)}
        for ax, (name, epochs) in zip(small[3 * n : 3 * n + 3], when.items(), strict=True):
            shares = np.mean([k[e] for k, e in zip(kept, epochs, strict=True)], axis=0)
            plots.cell(runs[0].config.space, ax, shares, small=True)
            ax.set_title(f"{name}: {shares.sum():.1f}", fontsize="small")
        above, below = axes[:, n]
        plots.active_edges({title: runs}, above)
        for line in above.lines:
            line.set_color(colour)
        above.set(xlabel="", title=title, ylabel="active edges" if n == 0 else "")
        plots.output_cost(runs, below, color=colour)
        below.set(ylabel="L − H  [nat]" if n == 0 else "")
    plots.zoom(axes[1, 0], flat({arm: arms[arm] for arm in ARMS}))
    return figure
