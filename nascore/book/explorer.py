"""The wiring explorer: searches that a reader moves through, epoch by epoch, on a page of the book.

The output of a cell carries the data as metadata; the book's Sphinx extension writes them beside
the page, where book/_explorer/explorer.js draws them. Elsewhere the output is a line of text.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas
from numpy.typing import ArrayLike

from nascore.book import plots
from nascore.engine.space import edge_name, short_name
from nascore.evidence.analyses import mean_over_operations
from nascore.evidence.growth import kept_edges
from nascore.evidence.phenomena import measured_cost
from nascore.runs.history import most_probable
from nascore.runs.run import Run

EXPLORER = "nascore_explorer"
"""Metadata of the notebook output that holds an explorer's data; a class of its element, too."""

COLOURS = {
    "input": plots.INPUT,
    "inner": plots.INTERMEDIATE,
    "output": plots.OUTPUT,
    "operations": plots.OPERATIONS,
    "earns": plots.EARNS,
    "costs": plots.COSTS,
}
"""The colours of the figures, by the names that explorer.js has for what is in them."""

HTML = (
    f'<div class="{EXPLORER}">The page of the book has an explorer here, which draws the wiring '
    "after any epoch, of every seed. It needs JavaScript.</div>"
)


class WiringExplorer:
    """The runs of some arms, to move through; it opens on the first run of the first arm."""

    def __init__(self, arms: Mapping[str, Sequence[Run]]):
        self.data = [{"name": name, **_setting_and_runs(runs)} for name, runs in arms.items()]

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        shown = {"text/plain": "an explorer, on the page of the book", "text/html": HTML}
        return shown, {EXPLORER: self.data}


def _setting_and_runs(runs: Sequence[Run]) -> dict:
    """What the runs of an arm share, and the course of each."""
    config, space = runs[0].config, runs[0].config.space
    return {
        "inputs": space.inputs,
        "nodes": space.nodes,
        "outputs": space.output_nodes,  # nodes that are joined to the output
        "edges": space.edges,
        "operations": [short_name(name).replace("_", " ") for name in space.operations],
        "steps": config.sizes["train"] // config.batch_size,  # of theta, in an epoch
        "runs": [_course(run) for run in runs],
    }


def _course(run: Run) -> dict:
    """One search; a list for each edge, or one for all, with an element for each epoch from 0."""
    epochs, probability = run.config.epochs, run.history.probability
    cost = [mean_over_operations(run.history, edge_name(edge)) for edge in run.config.space.edges]
    return {
        "seed": run.config.seed,
        "operation": most_probable(probability.values, probability.operation.values).T.tolist(),
        "percent": [_whole(p, 100) for p in probability.max("operation").values.T],  # of it
        "none": [_whole(p, 1000) for p in run.none_probability.values.T],  # p(none), per mille
        "cost": [_whole(c, 10_000, epochs // 20) for c in cost],  # tenths of a millinat
        "active": _whole(kept_edges(run), 1),
        "output_cost": _whole(measured_cost(run), 1000, epochs // 60),  # millinat
    }


def _whole(values: ArrayLike, scale: int, epochs: int = 1) -> list[int | None]:
    """Values times scale as whole numbers, short in JSON; None where a value is no number.

    Each is the mean of so many epochs around it, as in the figures.
    """
    means = pandas.Series(values).rolling(max(1, epochs), center=True, min_periods=1).mean()
    return [round(scale * value) if np.isfinite(value) else None for value in means]
