"""What each claim says, as a number for each run, and the bar that it has to clear.

The bars are fixed here, before any run is looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from nascore.records import Run
from nascore.topology import depth


@dataclass(frozen=True)
class Observation:
    """A claim, seed by seed.

    Arguments:
        claim: the claim's id, such as "P1".
        criterion: when it counts as seen in a seed, in words.
        seeds: the seeds.
        values: what was measured, by name, one number a seed.
        seen: whether it was seen, one bool a seed.
    """

    claim: str
    criterion: str
    seeds: Sequence[int]
    values: dict[str, np.ndarray]
    seen: np.ndarray

    def __str__(self) -> str:
        seen, seeds = int(self.seen.sum()), len(self.seen)
        verdict = (
            f"seen in {seen} of {seeds} seeds" if seen else f"not seen in any of {seeds} seeds"
        )
        return f"{self.claim}: {verdict}. Criterion: {self.criterion}."

    def table(self) -> pandas.DataFrame:
        """The values as text to show, a row for each and a column for each seed."""

        def text(value: float) -> str:
            return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"

        rows = {name: list(map(text, values)) for name, values in self.values.items()}
        rows["seen"] = ["yes" if seen else "no" for seen in self.seen]
        columns = [f"seed {seed}" for seed in self.seeds]
        return pandas.DataFrame.from_dict(rows, orient="index", columns=columns)


def _seeds(runs: Sequence[Run]) -> list[int]:
    return [run.config.seed for run in runs]


def growing(runs: Sequence[Run]) -> Observation:
    """P1: search drops edges first and then grows them back."""
    active = np.stack([run.active_edges.values for run in runs])  # (seeds, epochs + 1)
    none = np.stack([run.none_probability.mean("edge").values for run in runs])
    start, lowest, end = active[:, 0], active.min(axis=1), active[:, -1]
    values = {
        "edges at the start": start,
        "fewest edges": lowest,
        "epoch of the fewest": active.argmin(axis=1),
        "edges at the end": end,
        "p(none) at the start": none[:, 0],
        "highest p(none)": none.max(axis=1),
        "p(none) at the end": none[:, -1],
    }
    return Observation(
        "P1",
        "the number of active edges falls below its start and ends above its minimum, and the mean "
        "of p(none) rises above its start and ends below its maximum",
        _seeds(runs),
        values,
        (lowest < start)
        & (end > lowest)
        & (none.max(axis=1) > none[:, 0])
        & (none.max(axis=1) > none[:, -1]),
    )


def width_preference(runs: Sequence[Run]) -> Observation:
    """P2: input edges are kept, intermediate edges are dropped."""

    def mean_none(run: Run, edges) -> float:
        names = [edge in edges for edge in run.config.space.edges]
        return float(run.none_probability.isel(epoch=-1).values[names].mean())

    inputs = np.array([mean_none(run, run.config.space.input_edges) for run in runs])
    inner = np.array([mean_none(run, run.config.space.intermediate_edges) for run in runs])
    values = {
        "p(none) on input edges": inputs,
        "p(none) on intermediate edges": inner,
        "difference": inner - inputs,
        "depth at the end": np.array([depth(run.wiring) for run in runs]),
    }
    return Observation(
        "P2",
        "p(none) at the end is higher on intermediate edges than on input edges, in the mean",
        _seeds(runs),
        values,
        inner > inputs,
    )


def bilevel_failure(bilevel: Sequence[Run], single: Sequence[Run]) -> Observation:
    """P3: bi-level search drops every edge, single-level search of the same budget does not."""

    def at_end(values: Callable[[Run], object], runs: Sequence[Run]) -> np.ndarray:
        return np.array([float(values(run).isel(epoch=-1)) for run in runs])

    def held_out(run: Run):
        return run.output_cost.sel(split="search")

    edges = len(bilevel[0].config.space.edges)
    lost = at_end(lambda run: run.active_edges, bilevel)
    kept = at_end(lambda run: run.active_edges, single)
    values = {
        "edges at the end, bi-level": lost,
        "edges at the end, single-level": kept,
        "L - H on the search set, bi-level": at_end(held_out, bilevel),
        "L - H on the search set, single-level": at_end(held_out, single),
    }
    return Observation(
        "P3",
        "bi-level ends with at most a fifth of the edges active, single-level with three fifths "
        "or more",
        _seeds(bilevel),
        values,
        (lost <= edges / 5) & (kept >= edges * 3 / 5),
    )
