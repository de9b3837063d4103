"""The seven analyses (A1 to A7): what decides each of them, and its measure."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import xarray as xr

from nascore.engine.random import stream
from nascore.evidence.claims import Arms, Evidence, above, claim, each, mean, seeds_of
from nascore.runs.run import Run
from nascore.theory.deep_linear import DEPTHS, learning_curve, train_chain

BEFORE_LAST = slice(0, -1)  # the cells before the last


def mean_cost(run: Run, epochs: slice, cells: slice = slice(None)) -> float:
    """Cost in nats of the operations but `none`, mean over cells, edges, operations and epochs."""
    cost = run.history.cost_mean.isel(epoch=epochs, cell=cells)
    return cost.sel(operation=cost.operation != "none").mean()


@claim(
    id="A1",
    says="Under uniform masks an operation other than none costs, on average, more than 0 at "
    "initialisation and less than 0 near the convergence of theta.",
    short="The mean operation costs > 0 at initialisation, < 0 near convergence",
    experiment="cost_at_init_and_convergence",
    chapter="cost_over_training",
    effect="the smaller of: mean cost before training; minus mean cost in the last tenth of epochs",
    test="both above 0 across seeds: exact sign flips, the larger p",
    control="the same in the cells before the last, whose costs add up to little (A4)",
)
def cost_at_init_and_convergence(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    when = slice(0, 1), slice(-max(1, runs[0].config.epochs // 10), None)
    start, end = (each(mean_cost, runs, epochs) for epochs in when)
    earlier = [each(mean_cost, runs, epochs, BEFORE_LAST) for epochs in when]
    return Evidence(
        seeds_of(runs),
        np.minimum(start, -end),
        f"The mean operation costs {mean(start):+.2g} nat at initialisation and {mean(end):+.2g} "
        "nat near convergence.",
        p=above(start, -end),
        control=np.minimum(earlier[0], -earlier[1]) if runs[0].config.cells > 1 else (),
        values={"cost at initialisation": start, "cost near convergence": end},
    )


def _largest(values: xr.DataArray) -> float:
    """The largest size of any value; NaN if one is NaN."""
    return float(np.abs(values.values).max())


@claim(
    id="A2",
    says="At every step, the output edges of the last cell together cost L − H.",
    short="The output costs L − H at every step",
    experiment="growing",
    chapter="sum_rule",
    effect="largest difference between the two over epochs, each the mean of an epoch's steps",
    test="at most the bar in every seed: float32",
    control="L − H of the validation set, which alpha does not see",
    bar=1e-4,
    tested=False,
)
def sum_rule(arms: Arms) -> Evidence:
    (runs,) = arms.values()

    def difference(run: Run, split: str) -> float:
        brought = run.history.cell_output_cost.isel(cell=-1)
        return _largest(brought - run.output_cost.sel(split=split))

    residual = each(difference, runs, "train")
    return Evidence(
        seeds_of(runs),
        residual,
        f"The two differ by {residual.max():.1g} nat at most, over {runs[0].config.epochs + 1} "
        f"epochs of {len(runs)} searches.",
        control=each(difference, runs, "valid") if runs[0].config.valid_examples else (),
    )


@claim(
    id="A3",
    says="No cost passes an intermediate edge, except through skip_connect.",
    short="No cost passes an intermediate edge, except through `skip_connect`",
    experiment="path_cost",
    chapter="sum_rule",
    effect="without skip_connect on intermediate edges: largest difference between the cost of all "
    "edges of the last cell and that of its output edges, over epochs, relative to the largest "
    "output cost",
    test="at most the bar in every seed: the eps of the normalisation",
    control="the same with skip_connect allowed",
    bar=1e-2,
    unit="of the output cost",
    tested=False,
)
def path_cost(arms: Arms) -> Evidence:
    def passed(run: Run) -> float:
        output = run.history.cell_output_cost.isel(cell=-1, epoch=slice(1, None))
        return _largest(of_all_edges(run).isel(cell=-1) - output) / _largest(output)

    without, control = (each(passed, arms[arm]) for arm in ("without", "with skip_connect"))
    most = f"{without.max():.1g} of the output cost passes, with skip_connect {control.max():.2g}"
    return Evidence(seeds_of(arms["without"]), without, f"At most {most}.", control=control)


def of_all_edges(run: Run) -> xr.DataArray:
    """Cost in nats of all edges of a cell together, mean over an epoch's steps, (epoch, cell)."""
    history = run.history.isel(epoch=slice(1, None))
    steps = run.config.sizes["train"] // run.config.batch_size
    return (history.cost_mean.fillna(0) * history.cost_count).sum(["edge", "operation"]) / steps


@claim(
    id="A4",
    says="In every cell but the last, the output edges together cost nothing.",
    short="Every cell but the last costs nothing",
    experiment="growing",
    chapter="sum_rule",
    effect="largest size of that cost over epochs and cells, relative to the last cell's",
    test="at most the bar in every seed: the eps of the normalisation",
    control="all edges of those cells, where skip_connect lets cost pass (A3)",
    bar=1e-2,
    unit="of the last cell's",
    tested=False,
)
def cell_sums(arms: Arms) -> Evidence:
    (runs,) = arms.values()

    def share(run: Run, all_edges: bool) -> float:
        output = run.history.cell_output_cost
        cost = of_all_edges(run) if all_edges else output
        return _largest(cost.isel(cell=BEFORE_LAST)) / _largest(output.isel(cell=-1))

    residual = each(share, runs, False)
    return Evidence(
        seeds_of(runs),
        residual,
        f"Cells before the last bring {residual.max():.1g} of the last cell's cost at most.",
        control=each(share, runs, True),
    )


def later_cost(run: Run, split: str, outcome: str | None = None) -> float:
    """L - H of a split in nats, mean over the second half of the epochs; of one outcome or all."""
    cost = run.output_cost
    if outcome is not None:
        cost = (run.history.loss - run.history.entropy).sel(outcome=outcome)
    return cost.sel(split=split).isel(epoch=slice(-(run.config.epochs // 2), None)).mean()


@claim(
    id="A5",
    says="In bi-level search, wrong answers keep L far above H on the search set, so cost stays "
    "positive there while it is negative on the training set.",
    short="Confident mistakes keep the cost of held-out data positive",
    experiment="bilevel_failure",
    chapter="right_and_wrong",
    effect="the smaller of: L − H on the search set; minus L − H on the training set; each the "
    "mean over the second half of the epochs",
    test="both above 0 across seeds (exact sign flips, the larger p); also, L − H of the wrong "
    "answers on the search set is above 0 on average",
    control="bi-level search without label noise",
)
def right_and_wrong(arms: Arms) -> Evidence:
    def both(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        return each(later_cost, runs, "search"), -each(later_cost, runs, "train")

    runs = arms["bi-level"]
    search, minus_train = both(runs)
    wrong, right = (each(later_cost, runs, "search", outcome) for outcome in ("wrong", "right"))
    return Evidence(
        seeds_of(runs),
        np.minimum(search, minus_train),
        f"In the second half L − H is {mean(search):+.2f} nat on the search set "
        f"({mean(wrong):+.2f} for wrong, {mean(right):+.2f} for right answers) and "
        f"{-mean(minus_train):+.2f} nat on the training set.",
        p=above(search, minus_train),
        control=np.minimum(*both(arms["control"])) if "control" in arms else (),
        met=mean(wrong) > 0,
        values={
            "L − H on the search set": search,
            "of its wrong answers": wrong,
            "of its right answers": right,
            "L − H on the training set": -minus_train,
        },
    )


def deep_advantage(run: Run) -> float:
    """Cost of edge (1,3) minus that of (2,3) in nats: positive if the deep edge is the better one.

    Mean over operations but `none` and over the second half of the epochs, summed over cells.
    """
    cost = run.history.cost_mean.isel(epoch=slice(-(run.config.epochs // 2), None))
    cost = cost.sel(operation=cost.operation != "none").mean(["operation", "epoch"])
    cost = cost.sum("cell", skipna=False)
    return cost.sel(edge="(1,3)") - cost.sel(edge="(2,3)")


@claim(
    id="A6",
    says="Where the first operation of a chain is always trained, the deep edge is not worse.",
    short="With its first operation always trained, the deep edge is not worse",
    experiment="training_opportunity",
    chapter="training_opportunity",
    effect="cost of the wide edge (1,3) minus cost of the deep edge (2,3), mean over the second "
    "half of the epochs: with (1,2) fixed minus with (1,2) free",
    test="above 0 across seeds (exact sign flips); also, with (1,2) fixed the deep edge costs, on "
    "average, no more than the wide one",
    control="cost of (1,3) minus cost of (2,3) with (1,2) free",
)
def training_opportunity(arms: Arms) -> Evidence:
    fixed, free = (each(deep_advantage, arms[arm]) for arm in ("fixed", "free"))
    said = [f"{abs(m):.2g} nat {'less' if m >= 0 else 'more'}" for m in (mean(fixed), mean(free))]
    return Evidence(
        seeds_of(arms["fixed"]),
        fixed - free,
        f"With (1,2) fixed the deep edge costs {said[0]} than the wide one, with (1,2) free "
        f"{said[1]}.",
        p=above(fixed - free),
        control=free,
        met=np.nan_to_num(fixed).mean() >= 0,
        values={"(1,3) minus (2,3), fixed": fixed, "(1,3) minus (2,3), free": free},
    )


@claim(
    id="A7",
    says="A linear chain learns a mode in the time that the closed form gives for its depth.",
    short="Deep linear chains learn as the closed form says",
    experiment=None,
    chapter="training",
    effect="largest difference between a mode's strength and its closed form, over time and depths "
    "1 to 3, relative to the strength of the target",
    test="at most the bar in every seed: the finite learning rate",
    control="the closed form of depth 2 against a chain of depth 3",
    bar=1e-2,
    unit="of the strength",
    tested=False,
)
def deep_linear(arms: Arms) -> Evidence:
    residual, control = _chains()
    return Evidence(
        range(len(residual)),
        residual,
        f"Chains of depth 1 to 3 follow it to within {max(residual):.1g} of the strength.",
        control=control,
    )


@cache
def _chains() -> tuple[np.ndarray, np.ndarray]:
    """Residual and control of A7 for five seeds, a share of the strength; no run changes them."""
    strengths, start, lr, steps = (2.0, 1.0), 0.01, 2e-3, 4000
    times = lr * np.arange(steps + 1)
    exact = [np.transpose([learning_curve(times, d, s, start) for s in strengths]) for d in DEPTHS]
    exact = np.stack(exact)[:, :, None]  # (depths, steps + 1, 1, modes)
    made = []  # (depths, steps + 1, seeds, modes)
    for depth in DEPTHS:
        rngs = (stream(seed, "chain") for seed in range(5))
        made.append(train_chain(depth, strengths, start, lr, steps, *rngs))
    residual, control = (made - exact) / strengths, (made[2] - exact[1]) / strengths
    return np.abs(residual).max(axis=(0, 1, 3)), np.abs(control).max(axis=(0, 2))
