"""The claims of the paper: what decides each of them, fixed before any result is looked at.

A claim is tested or checked. A tested claim has an effect, one number a seed, that is positive if
the claim holds. It is supported if the effect is more than chance allows and at least its bar. A
checked claim is an identity: its residual is below a tolerance in every seed, or it fails.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas
import xarray as xr

from nascore import topology
from nascore.experiments import PROFILES, configs_of, load_experiment
from nascore.linear import DEPTHS, learning_curve, train_chain
from nascore.records import Run, RunStore
from nascore.significance import LEVEL, below_chance, bonferroni, interval, sign_flip
from nascore.space import Edge
from nascore.streams import stream, stream_seed

Arms = Mapping[str, Sequence[Run]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the runs of an experiment say of a claim.

    Arguments:
        seeds: the seeds.
        effect: one number a seed; NaN where a run diverged.
        why: what was seen, in words.
        p: of the test; None if the claim is checked.
        control: the same number where the claim should not hold, one a seed; empty without one.
        met: whether what the claim asks for besides is there.
        values: what was measured, by name, one number a seed.
    """

    seeds: Sequence[int]
    effect: np.ndarray
    why: str
    p: float | None = None
    control: np.ndarray = field(default_factory=lambda: np.array([]))
    met: bool = True
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    def table(self) -> pandas.DataFrame:
        """The values as text to show, a row for each and a column for each seed."""

        def text(value: float) -> str:
            if np.isnan(value):
                return "diverged"
            return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"

        rows = dict(self.values) | {"effect": self.effect}
        rows |= {"control": self.control} if len(self.control) else {}
        columns = [f"seed {seed}" for seed in self.seeds]
        return pandas.DataFrame.from_dict(
            {name: list(map(text, values)) for name, values in rows.items()},
            orient="index",
            columns=columns,
        )


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Arguments:
        claim: its id.
        effect: mean over the seeds; of a checked claim, the largest residual.
        interval: 95 percent interval of the mean; of a checked claim, from 0 to the effect.
        p: corrected for the number of tested claims; None if the claim is checked.
        n: number of seeds.
        verdict: supported, not supported or undecided.
        why: what was seen, in words.
        control: mean effect of the negative control; NaN without one.
    """

    claim: str
    effect: float
    interval: tuple[float, float]
    p: float | None
    n: int
    verdict: str
    why: str
    control: float

    def __str__(self) -> str:
        unit = CLAIMS[self.claim].unit
        if self.p is None:
            return f"**{self.claim}: {self.verdict}.** {self.why}"
        low, high = self.interval
        return (
            f"**{self.claim}: {self.verdict}.** Effect {self.effect:+.3g} {unit} "
            f"(95 percent interval {low:+.3g} to {high:+.3g}, n = {self.n}, "
            f"corrected p = {self.p:.2g}). {self.why}"
        )


@dataclass(frozen=True)
class Claim:
    """A claim and what decides it.

    Arguments:
        says: the paper's claim, in our reading.
        experiment: whose runs decide it.
        chapter: the notebook that shows them.
        effect: the number for each seed, in words.
        test: what the claim is decided by, in words.
        control: the negative control, in words.
        bar: least mean effect that counts; of a checked claim, the largest residual allowed.
        unit: of the effect.
        tested: by a test across seeds; else checked against the bar.
        measure: from the experiment's runs to the evidence.
    """

    id: str
    name: str
    says: str
    experiment: str
    chapter: str
    effect: str
    test: str
    control: str
    bar: float
    unit: str
    tested: bool
    measure: Callable[[Arms], Evidence]

    @property
    def text(self) -> str:
        """The claim and what decides it, as Markdown."""
        sign = "at least" if self.tested else "at most"
        return (
            f"**{self.id}, the claim.** {self.says}\n\n"
            f"- *{'Effect' if self.tested else 'Residual'}, seed by seed:* {self.effect}.\n"
            f"- *Decided by:* {self.test}.\n"
            f"- *Bar:* {sign} {self.bar:g} {self.unit}"
            f"{' in the mean over seeds' if self.tested else ''}.\n"
            f"- *Negative control:* {self.control}."
        )


CLAIMS: dict[str, Claim] = {}
"""Every claim by its id."""


def judge(claim: str, evidence: Evidence) -> Verdict:
    """The verdict on a claim, from its evidence.

    A run that diverged counts as no effect in a test, and fails a check.
    """
    bar, n = CLAIMS[claim].bar, len(evidence.effect)
    control = float(np.mean(evidence.control)) if len(evidence.control) else np.nan
    if not CLAIMS[claim].tested:
        worst = float(np.abs(evidence.effect).max())
        verdict = "supported" if worst <= bar and evidence.met else "not supported"
        return Verdict(claim, worst, (0.0, worst), None, n, verdict, evidence.why, control)
    effect, tests = np.nan_to_num(evidence.effect), sum(c.tested for c in CLAIMS.values())
    mean, (low, high) = float(effect.mean()), interval(effect)
    p, why = bonferroni(evidence.p, tests), evidence.why
    if p <= LEVEL and mean >= bar and evidence.met:
        verdict = "supported"
    elif high < bar or not evidence.met:
        verdict = "not supported"
    else:
        verdict = "undecided"
        if bonferroni(2.0**-n, tests) > LEVEL:
            why += f" With n = {n}, no result could be below the level of {LEVEL}."
    return Verdict(claim, mean, (low, high), p, n, verdict, why, control)


def verdicts(profile: str, store: RunStore) -> dict[str, Verdict]:
    """The verdict on every claim whose experiment a store has in full, by id."""
    found = {claim.id: load_experiment(claim.experiment, profile, store) for claim in in_order()}
    return {
        name: judge(name, CLAIMS[name].measure(arms))
        for name, arms in found.items()
        if arms is not None
    }


def scorecard(store: RunStore) -> dict[str, dict[str, Verdict]]:
    """The verdicts of every profile that has runs in a store, by profile (the largest first)."""
    cards = {profile: verdicts(profile, store) for profile in reversed(PROFILES)}
    return {
        profile: card
        for profile, card in cards.items()
        if any(configs_of(CLAIMS[name].experiment, profile) for name in card)
    }


def across(claim: str, arms: Arms) -> pandas.DataFrame:
    """What a claim looks at, in every arm of an experiment that explores: means over seeds.

    It decides nothing: there is no test and no verdict.
    """
    rows = {}
    for arm, runs in arms.items():
        evidence = CLAIMS[claim].measure({arm: runs})
        rows[arm] = {name: float(np.mean(values)) for name, values in evidence.values.items()}
        low, high = interval(np.nan_to_num(evidence.effect))
        rows[arm] |= {
            "effect": float(np.nan_to_num(evidence.effect).mean()),
            "from": low,
            "to": high,
            "control": float(np.mean(evidence.control)),
            "seeds": len(runs),
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def listed() -> pandas.DataFrame:
    """Every claim with its effect, test, bar and control, in words."""
    rows = [
        {
            "claim": claim.id,
            "effect": claim.effect,
            "decided by": claim.test,
            "bar": f"{'≥' if claim.tested else '≤'} {claim.bar:g} {claim.unit}",
            "negative control": claim.control,
        }
        for claim in in_order()
    ]
    return pandas.DataFrame(rows).set_index("claim")


def in_order() -> list[Claim]:
    """The phenomena first, then the analyses."""
    return sorted(CLAIMS.values(), key=lambda claim: (claim.id[0] != "P", claim.id))


def _claim(**texts):
    """Registers the decorated function as the measure of a claim."""

    def add(measure):
        CLAIMS[texts["id"]] = Claim(measure=measure, **texts)
        return measure

    return add


def _seeds(runs: Sequence[Run]) -> list[int]:
    return [run.config.seed for run in runs]


def _each(measure: Callable[[Run], float], runs: Sequence[Run]) -> np.ndarray:
    return np.array([float(measure(run)) for run in runs])


def _both(one: np.ndarray, other: np.ndarray) -> float:
    """p of two effects that must both be above 0: the larger of the two."""
    return max(sign_flip(np.nan_to_num(one)), sign_flip(np.nan_to_num(other)))


# --- the phenomena -----------------------------------------------------------------------------


def arc(values: np.ndarray) -> float:
    """How far a series rises above both of its ends, less how far it falls below both."""
    rise = values.max() - max(values[0], values[-1])
    fall = min(values[0], values[-1]) - values.min()
    return float(rise - fall)


def shuffled(run: Run) -> np.ndarray:
    """p(none) of a run whose updates of alpha came in another order, (epoch, edge).

    The order of the epochs' updates is drawn by the run's seed. Start and end stay as they were.
    """
    alpha = run.history.alpha.values.astype("f8")  # (epoch, edge, operation)
    steps = np.diff(alpha, axis=0)
    order = np.random.default_rng(stream_seed(run.config.seed, "shuffle")).permutation(len(steps))
    moved = alpha[0] + np.concatenate([0 * steps[:1], np.cumsum(steps[order], axis=0)])
    allowed = run.history.probability.values[0] > 0
    weight = np.exp(moved - moved.max(axis=2, keepdims=True)) * allowed
    none = list(run.config.space.operations).index("none")
    return weight[:, :, none] / weight.sum(axis=2)


@_claim(
    id="P1",
    name="Growing",
    says="Single-level search drops edges first and grows them back: it does not prune.",
    experiment="growing",
    chapter="growing",
    effect=(
        "how far the mean of p(none) over edges rises above both its start and its end, less how "
        "far it falls below both; and the same for the number of active edges, upside down"
    ),
    test="both above 0 across seeds: exact sign flips, the larger p",
    control="the same updates of alpha, epoch by epoch, in shuffled order",
    bar=0.05,
    unit="p(none)",
    tested=True,
)
def growing(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    none = [run.none_probability.mean("edge", skipna=False).values for run in runs]
    active = [run.active_edges.values for run in runs]
    risen, fallen = np.array(list(map(arc, none))), np.array([arc(-edges) for edges in active])
    both = (risen > 0) & (fallen > 0)
    return Evidence(
        _seeds(runs),
        risen,
        f"p(none) peaks {np.nanmean(risen):.2f} above its ends; in the mean over seeds the cell "
        f"goes from {np.mean([a[0] for a in active]):.1f} active edges to "
        f"{np.mean([a.min() for a in active]):.1f} and ends with "
        f"{np.mean([a[-1] for a in active]):.1f}. Both rise and fall in {both.sum()} of "
        f"{len(runs)} seeds.",
        _both(risen, fallen),
        np.array([arc(shuffled(run).mean(axis=1)) for run in runs]),
        values={
            "edges at the start": np.array([edges[0] for edges in active]),
            "fewest edges": np.array([edges.min() for edges in active]),
            "epoch of the fewest": np.array([edges.argmin() for edges in active]),
            "edges at the end": np.array([edges[-1] for edges in active]),
            "p(none) at the start": np.array([series[0] for series in none]),
            "highest p(none)": np.array([series.max() for series in none]),
            "p(none) at the end": np.array([series[-1] for series in none]),
        },
    )


def none_on(run: Run, edges: Sequence[Edge]) -> float:
    """p(none) at the end, mean over some edges."""
    chosen = [edge in edges for edge in run.config.space.edges]
    return float(run.none_probability.isel(epoch=-1).values[chosen].mean())


def _relabelled(run: Run) -> float:
    """The effect of P2 if some input edges, drawn by seed, are called intermediate."""
    space = run.config.space
    rng = np.random.default_rng(stream_seed(run.config.seed, "relabel"))
    order = [space.input_edges[n] for n in rng.permutation(len(space.input_edges))]
    called = order[: min(len(space.intermediate_edges), len(order) // 2)]
    return none_on(run, called) - none_on(run, order[len(called) :])


@_claim(
    id="P2",
    name="Width",
    says="Search keeps input edges and drops intermediate ones: wide wirings, not deep ones.",
    experiment="growing",
    chapter="width_preference",
    effect="p(none) at the end, mean over intermediate edges less mean over input edges",
    test=(
        "above 0 across seeds (exact sign flips), and the depth of the final wirings below that "
        "of random wirings with as many edges (exact); the larger p"
    ),
    control="the same difference with input edges, drawn by seed, called intermediate",
    bar=0.1,
    unit="p(none)",
    tested=True,
)
def width_preference(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    inputs = _each(lambda run: none_on(run, run.config.space.input_edges), runs)
    inner = _each(lambda run: none_on(run, run.config.space.intermediate_edges), runs)
    ended = [run for run in runs if not run.active_edges.isnull()[-1]]
    depths = [topology.depth(run.wiring) for run in ended]
    chance = [topology.chance(run.wiring, topology.depth) for run in ended]
    expected = [float(options.mean()) for options in chance]
    p = below_chance(depths, chance) if ended else 1.0
    return Evidence(
        _seeds(runs),
        inner - inputs,
        f"p(none) ends at {np.nanmean(inner):.2f} on intermediate and {np.nanmean(inputs):.2f} on "
        f"input edges. The final wirings have depth {np.mean(depths):.2f}, random wirings with as "
        f"many edges {np.mean(expected):.2f}.",
        max(sign_flip(np.nan_to_num(inner - inputs)), p),
        _each(_relabelled, runs),
        values={
            "p(none) on input edges": inputs,
            "p(none) on intermediate edges": inner,
            **(
                {"depth at the end": np.array(depths), "depth by chance": np.array(expected)}
                if len(ended) == len(runs)
                else {}
            ),
        },
    )


def share_kept(run: Run) -> float:
    """Share of the edges that are active at the end."""
    return float(run.active_edges.isel(epoch=-1)) / len(run.config.space.edges)


@_claim(
    id="P3",
    name="Failure",
    says="Bi-level search drops every edge in the end; single-level search does not.",
    experiment="bilevel_failure",
    chapter="bilevel_failure",
    effect="share of the edges that are kept at the end, single-level less bi-level",
    test=(
        "above 0 across seeds (exact sign flips); besides, bi-level keeps at most a fifth in the "
        "mean, single-level at least three fifths"
    ),
    control="single-level less bi-level search without label noise",
    bar=0.4,
    unit="of the edges",
    tested=True,
)
def bilevel_failure(arms: Arms) -> Evidence:
    kept = {arm: _each(share_kept, runs) for arm, runs in arms.items()}
    bi, single = kept["bi-level"], kept["single-level"]
    why = f"Bi-level keeps {bi.mean():.2f} of the edges, single-level {single.mean():.2f}"
    why += f", bi-level without noise {kept['control'].mean():.2f}." if "control" in kept else "."
    return Evidence(
        _seeds(arms["bi-level"]),
        single - bi,
        why,
        sign_flip(np.nan_to_num(single - bi)),
        single - kept["control"] if "control" in kept else np.array([]),
        bool(bi.mean() <= 0.2 and single.mean() >= 0.6),
        {f"edges kept, {arm}": len(arms[arm][0].config.space.edges) * k for arm, k in kept.items()},
    )


# --- the analyses ------------------------------------------------------------------------------


def mean_cost(run: Run, epochs: slice) -> float:
    """Cost of the operations but `none`: mean over cells, edges, operations, epochs; in nats."""
    cost = run.history.cost_mean.isel(epoch=epochs)
    return float(cost.sel(operation=cost.operation != "none").mean())


@_claim(
    id="A1",
    name="Cost at both ends of training",
    says=(
        "Under uniform masks the operations but none cost more than 0 at initialisation, in the "
        "mean, and less than 0 near the convergence of theta."
    ),
    experiment="cost_at_init_and_convergence",
    chapter="cost_over_training",
    effect="the smaller of: mean cost before training; minus mean cost in the last tenth of epochs",
    test="both above 0 across seeds: exact sign flips, the larger p",
    control="the cost of none",
    bar=0.0,
    unit="nat",
    tested=True,
)
def cost_at_init_and_convergence(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    last = slice(-max(1, runs[0].config.epochs // 10), None)
    start = _each(lambda run: mean_cost(run, slice(0, 1)), runs)
    end = _each(lambda run: mean_cost(run, last), runs)
    return Evidence(
        _seeds(runs),
        np.minimum(start, -end),
        f"An operation costs {start.mean():+.2g} nat at initialisation and {end.mean():+.2g} nat "
        "near convergence.",
        _both(start, -end),
        _each(lambda run: run.history.cost_mean.sel(operation="none").mean(), runs),
        values={"cost at initialisation": start, "cost near convergence": end},
    )


def _largest(values: xr.DataArray) -> float:
    """The largest size of any value; NaN if one is NaN."""
    return float(np.abs(values.values).max())


@_claim(
    id="A2",
    name="Sum rule",
    says="At every step, the output edges of the last cell cost L − H together.",
    experiment="sum_rule",
    chapter="sum_rule",
    effect="largest difference between the two over the epochs",
    test="at most the bar in every seed: float32",
    control="L − H of the validation set, which alpha does not see",
    bar=1e-4,
    unit="nat",
    tested=False,
)
def sum_rule(arms: Arms) -> Evidence:
    (runs,) = arms.values()

    def difference(run: Run, split: str) -> float:
        brought = run.history.cell_output_cost.isel(cell=-1)
        return _largest(brought - run.output_cost.sel(split=split))

    residual = _each(lambda run: difference(run, "train"), runs)
    watched = runs[0].config.valid_examples > 0
    control = _each(lambda run: difference(run, "valid"), runs) if watched else np.array([])
    return Evidence(
        _seeds(runs),
        residual,
        f"The two differ by {residual.max():.1g} nat at most, over {runs[0].config.epochs + 1} "
        f"epochs of {len(runs)} searches.",
        control=control,
    )


@_claim(
    id="A3",
    name="Cost along paths",
    says="No cost passes an intermediate edge, except through skip_connect.",
    experiment="path_cost",
    chapter="sum_rule",
    effect=(
        "without skip_connect on intermediate edges: largest difference between the cost of all "
        "edges of the last cell and that of its output edges, over epochs, relative to the largest "
        "output cost"
    ),
    test="at most the bar in every seed: the eps of the normalisation",
    control="the same with skip_connect allowed",
    bar=1e-2,
    unit="of the output cost",
    tested=False,
)
def path_cost(arms: Arms) -> Evidence:
    without, control = (_each(passed, arms[arm]) for arm in ("without", "with skip_connect"))
    return Evidence(
        _seeds(arms["without"]),
        without,
        f"At most {without.max():.1g} of the output cost passes, with skip_connect "
        f"{control.max():.2g}.",
        control=control,
    )


def passed(run: Run) -> float:
    """Largest cost that passed an intermediate edge of the last cell, of the output cost.

    The cost of all edges, step by step, less what the output edges bring; largest over epochs.
    """
    last = run.history.isel(cell=-1, epoch=slice(1, None))
    steps = run.config.sizes["train"] // run.config.batch_size
    total = (last.cost_mean.fillna(0) * last.cost_count).sum(["edge", "operation"]) / steps
    return _largest(total - last.cell_output_cost) / _largest(last.cell_output_cost)


@_claim(
    id="A4",
    name="Zero sum of a cell",
    says="The output edges of every cell but the last cost nothing together.",
    experiment="cell_sums",
    chapter="sum_rule",
    effect="largest size of that cost over epochs and cells, relative to the last cell's",
    test="at most the bar in every seed: the eps of the normalisation",
    control="the last cell itself, whose output edges cost L − H",
    bar=1e-2,
    unit="of the last cell's",
    tested=False,
)
def cell_sums(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    last = _each(lambda run: _largest(run.history.cell_output_cost.isel(cell=-1)), runs)
    rest = _each(lambda run: _largest(run.history.cell_output_cost.isel(cell=slice(0, -1))), runs)
    return Evidence(
        _seeds(runs),
        rest / last,
        f"Cells before the last bring {(rest / last).max():.1g} of the last cell's cost at most.",
        control=last / last,
    )


def later_half(run: Run, split: str, outcome: str | None = None) -> float:
    """L - H of a split, mean over the second half of the epochs; of one outcome, or of all."""
    cost = run.output_cost
    if outcome is not None:
        cost = (run.history.loss - run.history.entropy).sel(outcome=outcome)
    return float(cost.sel(split=split).isel(epoch=slice(-(run.config.epochs // 2), None)).mean())


@_claim(
    id="A5",
    name="Right and wrong answers",
    says=(
        "In bi-level search, wrong answers keep L far above H on the search set, so cost stays "
        "positive there while it is negative on the training set."
    ),
    experiment="right_and_wrong",
    chapter="right_and_wrong",
    effect=(
        "the smaller of: L − H on the search set; minus L − H on the training set; both in the "
        "mean over the second half of the epochs"
    ),
    test=(
        "both above 0 across seeds (exact sign flips, the larger p); besides, L − H of the wrong "
        "answers on the search set is above 0 in the mean"
    ),
    control="bi-level search without label noise",
    bar=0.0,
    unit="nat",
    tested=True,
)
def right_and_wrong(arms: Arms) -> Evidence:
    def both(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        search, train = (
            _each(lambda run, split=split: later_half(run, split), runs)
            for split in ("search", "train")
        )
        return search, -train

    search, minus_train = both(arms["bi-level"])
    wrong = _each(lambda run: later_half(run, "search", "wrong"), arms["bi-level"])
    right = _each(lambda run: later_half(run, "search", "right"), arms["bi-level"])
    return Evidence(
        _seeds(arms["bi-level"]),
        np.minimum(search, minus_train),
        f"In the second half L − H is {search.mean():+.2f} nat on the search set "
        f"({wrong.mean():+.2f} for wrong, {right.mean():+.2f} for right answers) and "
        f"{-minus_train.mean():+.2f} nat on the training set.",
        _both(search, minus_train),
        np.minimum(*both(arms["control"])) if "control" in arms else np.array([]),
        bool(wrong.mean() > 0),
        {
            "L − H on the search set": search,
            "of its wrong answers": wrong,
            "of its right answers": right,
            "L − H on the training set": -minus_train,
        },
    )


def deep_advantage(run: Run) -> float:
    """Cost of edge (1,3) less that of (2,3): positive if the deep edge is the better one.

    Mean over operations but `none` and over the second half of the epochs, summed over cells; nats.
    """
    cost = run.history.cost_mean.isel(epoch=slice(-(run.config.epochs // 2), None))
    cost = cost.sel(operation=cost.operation != "none").mean(["operation", "epoch"])
    cost = cost.sum("cell", skipna=False)
    return float(cost.sel(edge="(1,3)") - cost.sel(edge="(2,3)"))


@_claim(
    id="A6",
    name="Training opportunity",
    says="Where the first operation of a chain is always trained, the deep edge is not worse.",
    experiment="training_opportunity",
    chapter="training_opportunity",
    effect=(
        "cost of the wide edge (1,3) less cost of the deep edge (2,3), mean over the second half "
        "of the epochs: with (1,2) fixed less with (1,2) free"
    ),
    test=(
        "above 0 across seeds (exact sign flips); besides, with (1,2) fixed the deep edge costs no "
        "more than the wide one, in the mean"
    ),
    control="cost of (1,3) less cost of (2,3) with (1,2) free",
    bar=0.0,
    unit="nat",
    tested=True,
)
def training_opportunity(arms: Arms) -> Evidence:
    fixed, free = (_each(deep_advantage, arms[arm]) for arm in ("fixed", "free"))
    return Evidence(
        _seeds(arms["fixed"]),
        fixed - free,
        f"The deep edge costs {-fixed.mean():+.2g} nat more than the wide one with (1,2) fixed, "
        f"{-free.mean():+.2g} nat more with (1,2) free.",
        sign_flip(np.nan_to_num(fixed - free)),
        free,
        bool(fixed.mean() >= 0),
        {"(1,3) less (2,3), fixed": fixed, "(1,3) less (2,3), free": free},
    )


@_claim(
    id="A7",
    name="Deep linear dynamics",
    says="A linear chain learns a mode in the time that the closed form gives for its depth.",
    experiment="deep_linear",
    chapter="training",
    effect=(
        "largest difference between a mode's strength and its closed form, over time and depths 1 "
        "to 3, relative to the strength of the target"
    ),
    test="at most the bar in every seed: the finite learning rate",
    control="the closed form of depth 2 against a chain of depth 3",
    bar=1e-2,
    unit="of the strength",
    tested=False,
)
def deep_linear(arms: Arms) -> Evidence:
    seeds, strengths, start, lr, steps = range(5), (2.0, 1.0), 0.01, 2e-3, 4000
    times = lr * np.arange(steps + 1)
    exact = {
        depth: np.stack([learning_curve(times, depth, s, start) for s in strengths], axis=1)
        for depth in DEPTHS
    }
    residual, control = [], []
    for seed in seeds:
        chains = {
            depth: train_chain(depth, strengths, start, lr, steps, stream(seed, "chain"))
            for depth in DEPTHS
        }
        off = {depth: np.abs(chains[depth] - exact[depth]) / strengths for depth in DEPTHS}
        residual.append(max(float(values.max()) for values in off.values()))
        control.append(float((np.abs(chains[3] - exact[2]) / strengths).max()))
    return Evidence(
        list(seeds),
        np.array(residual),
        f"Chains of depth 1 to 3 follow it to within {max(residual):.1g} of the strength.",
        control=np.array(control),
    )
