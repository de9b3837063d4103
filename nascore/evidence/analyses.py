"""The seven analyses (A1 to A7): what decides each of them, and its measure."""

from functools import cache

import numpy as np
import pandas
import xarray as xr

from nascore.engine.random import stream
from nascore.evidence.claims import BOOK, Arms, Evidence, above, claim, each
from nascore.evidence.experiments import NOT_HELD_OUT, TWO, flat
from nascore.runs.run import Run
from nascore.theory.deep_linear import DEPTHS, learning_curve, train_chain


def mean_cost(run: Run, share: float | None) -> xr.DataArray:
    """Cost in nats of every operation but `none`, summed over cells, (edge, operation).

    Of the last epochs, a share of all, in which each step counts once; None is epoch 0.
    """
    last = run.history.sizes["epoch"]
    epochs = slice(0, 1) if share is None else slice(last - max(1, round(share * (last - 1))), last)
    history = run.history.isel(epoch=epochs)
    steps = history.cost_count.sum("epoch")
    total = (history.cost_mean.fillna(0) * history.cost_count).sum("epoch")
    cost = (total / steps.where(steps > 0)).sum("cell", min_count=1)
    return cost.sel(operation=cost.operation != "none")


def mean_over_operations(history: xr.Dataset, edge: str) -> xr.DataArray:
    """Cost in nats of an operation on an edge, mean over all but `none`, summed over cells."""
    cost = history.cost_mean.sel(edge=edge, operation=history.operation != "none")
    return cost.mean("operation").sum("cell", min_count=1)


@claim("A1", **BOOK["A1"])
def cost_at_init_and_convergence(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    start, end = (each(lambda run, s=s: mean_cost(run, s).mean(), runs) for s in (None, 0.25))
    negative = each(lambda run: (mean_cost(run, 0.25) < 0).mean(), runs)
    return Evidence(
        -end,
        f"The mean operation costs {start.mean():+.3f} nat at initialisation and {end.mean():+.3f} "
        f"nat late, when {100 * negative.mean():.0f} percent of the pairs of edge and operation "
        "cost less than 0.",
        p=above(start, -end),
        control=-start,
        met=negative.mean() >= 0.6,
        values={
            "cost at initialisation": start,
            "cost late": end,
            "share of pairs below 0 late": negative,
        },
    )


def _largest(values: xr.DataArray) -> float:
    """The largest magnitude; NaN if a value is NaN."""
    return float(np.abs(values.values).max())


@claim("A2", **BOOK["A2"])
def sum_rule(arms: Arms) -> Evidence:
    runs = flat(arms)

    def difference(run: Run, split: str) -> float:
        brought = run.history.cell_output_cost.isel(cell=-1)
        return _largest(brought - run.output_cost.sel(split=split))

    residual = each(difference, runs, "train")
    return Evidence(
        residual,
        f"The two differ by {residual.max():.2g} nat at most, over {runs[0].config.epochs + 1} "
        f"epochs of {len(runs)} searches.",
        control=each(difference, runs, "valid") if runs[0].config.valid_examples else None,
    )


@claim("A3", **BOOK["A3"])
def path_cost(arms: Arms) -> Evidence:
    def share(run: Run) -> float:
        output = run.history.cell_output_cost.isel(cell=-1, epoch=slice(1, None))
        return _largest(passed_cost(run)) / _largest(output)

    without, control = (each(share, arms[arm]) for arm in ("without", "with skip_connect"))
    most = f"{without.max():.2g} of the output cost passes, with skip_connect {control.max():.2g}"
    return Evidence(without, f"At most {most}.", control=control)


def of_all_edges(run: Run) -> xr.DataArray:
    """Cost in nats of all edges of a cell together, mean over an epoch's steps, (epoch, cell)."""
    history = run.history.isel(epoch=slice(1, None))
    steps = run.config.sizes["train"] // run.config.batch_size
    return (history.cost_mean.fillna(0) * history.cost_count).sum(["edge", "operation"]) / steps


def passed_cost(run: Run) -> xr.DataArray:
    """Cost in nats of all edges of the last cell minus that of its output edges, (epoch,)."""
    cost = (of_all_edges(run) - run.history.cell_output_cost).isel(cell=-1)
    return cost.reindex(epoch=run.history.epoch, fill_value=0)


@claim("A4", **BOOK["A4"])
def cell_sums(arms: Arms) -> Evidence:
    runs = flat(arms)

    def share(run: Run, all_edges: bool) -> float:
        output = run.history.cell_output_cost
        cost = of_all_edges(run) if all_edges else output
        return _largest(cost.isel(cell=slice(0, -1))) / _largest(output.isel(cell=-1))

    residual = each(share, runs, False)
    return Evidence(
        residual,
        f"Cells before the last bring {residual.max():.2g} of the last cell's cost at most.",
        control=each(share, runs, True),
    )


def later_cost(run: Run, split: str, outcome: str | None = None) -> float:
    """L - H of a split in nats, mean over the second half of the epochs; of one outcome or all."""
    by_outcome = run.history.loss - run.history.entropy
    cost = by_outcome.sel(outcome=outcome) if outcome else run.output_cost
    last = max(1, run.last_epoch // 2)
    return cost.sel(split=split).isel(epoch=slice(-last, None)).mean()


@claim("A5", **BOOK["A5"])
def right_and_wrong(arms: Arms) -> Evidence:
    runs, same = arms[TWO], arms[NOT_HELD_OUT]
    search, train = (each(later_cost, runs, split) for split in ("search", "train"))
    wrong, right = (each(later_cost, runs, "search", outcome) for outcome in ("wrong", "right"))
    same_search, same_train = (each(later_cost, same, split) for split in ("search", "train"))
    return Evidence(
        search,
        f"In the second half L − H is {search.mean():+.2f} nat on the search set "
        f"({wrong.mean():+.2f} for wrong, {right.mean():+.2f} for right answers) and "
        f"{train.mean():+.2f} nat on the training set.",
        p=above(search, -train),
        control=np.minimum(same_search, -same_train),
        values={
            "L − H on the search set": search,
            "of its wrong answers": wrong,
            "of its right answers": right,
            "L − H on the training set": train,
        },
    )


def deep_disadvantage(run: Run, share: float | None = 0.5) -> float:
    """D: cost of edge (2,3) minus that of (1,3) in nats, mean over operations.

    Positive if the deep edge is the worse one. Arguments: mean_cost.
    """
    cost = mean_cost(run, share).mean("operation")
    return cost.sel(edge="(2,3)") - cost.sel(edge="(1,3)")


@claim("A6", **BOOK["A6"])
def training_opportunity(arms: Arms) -> Evidence:
    free, fixed = (each(deep_disadvantage, arms[arm]) for arm in ("free", "fixed"))
    before = [each(deep_disadvantage, arms[arm], None) for arm in ("free", "fixed")]
    means = free.mean(), fixed.mean()
    words = [f"{abs(mean):.2g} nat {'more' if mean >= 0 else 'less'}" for mean in means]
    return Evidence(
        free - fixed,
        f"The deep edge costs {words[0]} than the wide one with (1,2) free, and {words[1]} with "
        "(1,2) fixed.",
        p=above(free - fixed, -fixed),
        control=before[0] - before[1],
        values={"D, (1,2) free": free, "D, (1,2) fixed": fixed},
    )


@claim("A7", **BOOK["A7"])
def deep_linear(arms: Arms) -> Evidence:
    return _chains()


@cache
def _chains() -> Evidence:
    """Of five seeds, in shares of the strength; no run changes it."""
    strengths, start, lr, steps = (2.0, 1.0), 0.01, 2e-3, 4000
    times = lr * np.arange(steps + 1)
    exact = [np.transpose([learning_curve(times, d, s, start) for s in strengths]) for d in DEPTHS]
    exact = np.stack(exact)[:, :, None]  # (depths, steps + 1, 1, modes)
    made = []  # (depths, steps + 1, seeds, modes)
    for depth in DEPTHS:
        rngs = (stream(seed, "chain") for seed in range(5))
        made.append(train_chain(depth, strengths, start, lr, steps, *rngs))
    residual = np.abs((made - exact) / strengths).max(axis=(0, 1, 3))
    return Evidence(
        pandas.Series(residual),
        f"Chains of depth 1 to 3 follow it to within {residual.max():.2g} of the strength.",
        control=pandas.Series(np.abs((made[2] - exact[1]) / strengths).max(axis=(0, 2))),
    )
