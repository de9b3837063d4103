"""The three phenomena (P1 to P3): what decides each of them, and its measure."""

from collections.abc import Sequence

import numpy as np
import torch

from nascore.engine.random import stream_seed
from nascore.engine.space import Edge, edge_name
from nascore.evidence.claims import Arms, Evidence, above, claim, each, mean, seeds_of
from nascore.evidence.significance import below_chance
from nascore.runs.run import Run
from nascore.theory import topology


def arc(values: np.ndarray) -> float:
    """How far a series rises above both of its ends, minus how far it falls below both."""
    rise = values.max() - max(values[0], values[-1])
    fall = min(values[0], values[-1]) - values.min()
    return float(rise - fall)


def shuffled(run: Run) -> np.ndarray:
    """p(none) of a run whose updates of alpha came in another order, (epoch, edge).

    The order of the epochs' updates is drawn by the run's seed. Start and end stay as they were.
    """
    framework = run.config.make_framework().on(run.config.space)
    rng = np.random.default_rng(stream_seed(run.config.seed, "shuffle"))
    order = rng.permutation(run.history.sizes["epoch"] - 1)
    learned = {}
    for name in ("alpha", *framework.recorded):
        values = run.history[name].values.astype("f8")  # (epoch, edge, ...)
        steps = np.diff(values, axis=0)
        moved = values[0] + np.concatenate([0 * steps[:1], np.cumsum(steps[order], axis=0)])
        learned[name] = torch.from_numpy(moved)
    none = list(run.config.space.operations).index("none")
    curve = []
    for epoch in range(len(order) + 1):
        now = framework.restricted({name: values[epoch] for name, values in learned.items()})
        curve.append(framework.probability(**now)[:, none].numpy())
    return np.stack(curve)


@claim(
    id="P1",
    says="Single-level search drops edges first and grows them back: it does not prune.",
    short="Search drops edges first, then grows them back",
    experiment="growing",
    chapter="growing",
    effect="how far the mean of p(none) over edges rises above both its start and its end, minus "
    "how far it falls below both; and the same for the number of active edges, upside down",
    test="both above 0 across seeds: exact sign flips, the larger p. Where all edges start active "
    "their number cannot rise at first, so its part asks no more than that edges come back",
    control="the same updates of alpha, epoch by epoch, in shuffled order",
    bar=0.05,
    unit="p(none)",
)
def growing(arms: Arms) -> Evidence:
    (runs,) = arms.values()

    def none(run: Run) -> np.ndarray:
        return run.none_probability.mean("edge", skipna=False).values

    risen = each(lambda run: arc(none(run)), runs)
    fallen = each(lambda run: arc(-run.active_edges.values), runs)
    values = {
        "edges at the start": each(lambda run: run.active_edges[0], runs),
        "fewest edges": each(lambda run: run.active_edges.min(), runs),
        "epoch of the fewest": each(lambda run: run.active_edges.argmin("epoch"), runs),
        "edges at the end": each(lambda run: run.active_edges[-1], runs),
        "p(none) at the start": each(lambda run: none(run)[0], runs),
        "highest p(none)": each(lambda run: none(run).max(), runs),
        "p(none) at the end": each(lambda run: none(run)[-1], runs),
    }
    return Evidence(
        seeds_of(runs),
        risen,
        f"p(none) peaks {mean(risen):.2f} above its ends; on average over seeds the cell goes "
        f"from {mean(values['edges at the start']):.1f} active edges to "
        f"{mean(values['fewest edges']):.1f} and ends with {mean(values['edges at the end']):.1f}. "
        f"Both rise and fall in {((risen > 0) & (fallen > 0)).sum()} of {len(runs)} seeds.",
        p=above(risen, fallen),
        control=each(lambda run: arc(shuffled(run).mean(axis=1)), runs),
        values=values,
    )


def none_on(run: Run, edges: Sequence[Edge]) -> float:
    """p(none) at the end, a probability, mean over some edges."""
    chosen = [edge in edges for edge in run.config.space.edges]
    return float(run.none_probability.isel(epoch=-1).values[chosen].mean())


def _relabelled(run: Run) -> float:
    """The effect of P2 if some input edges, drawn by seed, are called intermediate."""
    space = run.config.space
    rng = np.random.default_rng(stream_seed(run.config.seed, "relabel"))
    order = [space.input_edges[n] for n in rng.permutation(len(space.input_edges))]
    called = order[: min(len(space.intermediate_edges), len(order) // 2)]
    return none_on(run, called) - none_on(run, order[len(called) :])


@claim(
    id="P2",
    says="Search keeps input edges and drops intermediate ones: wide wirings, not deep ones.",
    short="Wide wirings win over deep ones",
    experiment="growing",
    chapter="width_preference",
    effect="p(none) at the end, mean over intermediate edges minus mean over input edges",
    test="above 0 across seeds (exact sign flips), and the depth of the final wirings below that "
    "of random wirings with as many edges (exact); the larger p",
    control="the same difference with input edges, drawn by seed, called intermediate",
    bar=0.1,
    unit="p(none)",
)
def width_preference(arms: Arms) -> Evidence:
    (runs,) = arms.values()
    space, ended = runs[0].config.space, [run for run in runs if not run.diverged]
    inputs, inner = (each(none_on, runs, e) for e in (space.input_edges, space.intermediate_edges))
    lost = {edge: mean(each(none_on, runs, [edge])) for edge in space.input_edges}
    most = max(lost, key=lost.get)
    chance = {run.config.seed: topology.chance(run.wiring, topology.depth) for run in ended}
    depths = each(lambda run: topology.depth(run.wiring), runs)
    expected = each(lambda run: chance[run.config.seed].mean(), runs)
    return Evidence(
        seeds_of(runs),
        inner - inputs,
        f"p(none) ends at {mean(inner):.2f} on intermediate and {mean(inputs):.2f} on input edges; "
        f"of these {edge_name(most)} is lost most, with {lost[most]:.2f}. The final wirings have "
        f"depth {mean(depths):.2f}, random wirings with as many edges {mean(expected):.2f}.",
        p=max(above(inner - inputs), below_chance(depths[~np.isnan(depths)], chance.values())),
        control=each(_relabelled, runs),
        values={
            "p(none) on input edges": inputs,
            "p(none) on intermediate edges": inner,
            "depth at the end": depths,
            "depth by chance": expected,
        },
    )


@claim(
    id="P3",
    says="Bi-level search drops every edge in the end; single-level search does not.",
    short="Bi-level search drops every edge",
    experiment="bilevel_failure",
    chapter="bilevel_failure",
    effect="share of the edges that are kept at the end, single-level minus bi-level",
    test="above 0 across seeds (exact sign flips); also, on average, bi-level keeps at most a "
    "fifth and single-level at least three fifths",
    control="the same with the noise taken from the bi-level searches alone",
    bar=0.4,
    unit="of the edges",
)
def bilevel_failure(arms: Arms) -> Evidence:
    edges = len(arms["bi-level"][0].config.space.edges)
    active = {arm: each(lambda run: run.active_edges[-1], runs) for arm, runs in arms.items()}
    kept = {arm: number / edges for arm, number in active.items()}
    bi, single = kept["bi-level"], kept["single-level"]
    without = f", bi-level without noise {mean(kept['control']):.2f}" if "control" in kept else ""
    there = ~np.isnan(single - bi)  # a seed that diverged counts as no effect
    few = np.where(there, bi, 1).mean() <= 0.2
    many = np.where(there, single, 0).mean() >= 0.6
    return Evidence(
        seeds_of(arms["bi-level"]),
        single - bi,
        f"Bi-level keeps {mean(bi):.2f} of the edges, single-level {mean(single):.2f}{without}. "
        f"Bi-level drops every edge in {(bi == 0).sum()} of {len(bi)} seeds.",
        p=above(single - bi),
        control=single - kept["control"] if "control" in kept else (),
        met=few and many,
        values={f"edges kept, {arm}": number for arm, number in active.items()},
    )
