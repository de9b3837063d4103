"""The three phenomena (P1 to P3), and what ours adds (O1): what decides each, and its measure."""

from collections.abc import Callable, Sequence

import numpy as np

from nascore.engine.random import stream_seed
from nascore.engine.space import Edge
from nascore.evidence import growth
from nascore.evidence.claims import BOOK, Arms, Evidence, above, claim, each
from nascore.evidence.experiments import NOT_HELD_OUT, ONE, ONE_OF_FEWER, TWO
from nascore.evidence.significance import below_chance
from nascore.runs.run import Run
from nascore.theory import topology


def measured_cost(run: Run) -> np.ndarray:
    """L - H on the examples that alpha learns from, (epochs + 1,)."""
    split = "train" if run.config.level == "single" else "search"
    return run.output_cost.sel(split=split).values


def regrown_edges(run: Run) -> float:
    """R: edges dropped at some epoch and not dropped at the end."""
    return growth.regrown(growth.alpha_of(run))


def regrown_in_reverse(run: Run) -> float:
    """R': the same if the updates of alpha had come in reversed order."""
    alpha = growth.alpha_of(run)
    return growth.regrown(growth.reordered(alpha, np.arange(len(alpha) - 1)[::-1]))


def regrown_in_any_order(run: Run) -> float:
    """The same if they had come in an order that is drawn by the seed."""
    alpha = growth.alpha_of(run)
    rng = np.random.default_rng(stream_seed(run.config.seed, "shuffle"))
    return growth.regrown(growth.reordered(alpha, rng.permutation(len(alpha) - 1)))


def dropped_edges(run: Run) -> float:
    """Edges that are dropped at some epoch from 1 on."""
    return growth.dropped(growth.alpha_of(run))[1:].any(axis=0).sum()


def kept_edges_at(run: Run, epoch: int) -> float:
    """Edges that are not dropped at an epoch; -1 is the end."""
    return growth.kept_edges(run)[epoch]


def lost_after_turn(run: Run, measure: Callable[[np.ndarray], np.ndarray]) -> float:
    """How much of its advantage, or of its lead, `none` loses on input edges after the turn."""
    inputs = [edge in run.config.space.input_edges for edge in run.config.space.edges]
    probability = run.history.probability.sel(operation=growth.none_first(run)).values
    ahead = measure(probability[:, inputs].astype(float))
    return ahead[growth.turn(measured_cost(run))] - ahead[-1]


@claim("P1", **BOOK["P1"])
def growing(arms: Arms) -> Evidence:
    runs = arms[ONE]
    back, reverse = each(regrown_edges, runs), each(regrown_in_reverse, runs)
    gone = each(dropped_edges, runs)
    advantage = each(lost_after_turn, runs, growth.none_advantage)
    lead = each(lost_after_turn, runs, growth.none_lead)
    start, end = (each(kept_edges_at, runs, epoch) for epoch in (0, -1))
    fewest = each(lambda run: growth.kept_edges(run).min(), runs)
    overconfident = each(lambda run: (measured_cost(run)[1:] > 0.1).mean(), runs)
    return Evidence(
        back - reverse,
        f"A cell starts with {start.mean():.0f} edges, falls to {fewest.mean():.1f} and ends with "
        f"{end.mean():.1f}; {back.mean():.1f} of the dropped edges come back, with the same "
        f"updates in reversed order {reverse.mean():.1f}.",
        p=above(back - reverse, advantage, lead),
        control=each(regrown_in_any_order, runs) - reverse,
        met=gone.mean() >= 2,
        testable=overconfident.mean() >= 0.1,
        values={
            "edges at the start": start,
            "fewest edges": fewest,
            "edges at the end": end,
            "edges dropped at some time": gone,
            "edges regrown": back,
            "edges regrown, updates reversed": reverse,
            "epoch of the turn": each(lambda run: growth.turn(measured_cost(run)), runs),
            "advantage of none lost after it": advantage,
            "lead of none lost after it": lead,
        },
    )


def none_on(run: Run, edges: Sequence[Edge]) -> float:
    """p(none) at the end, a probability, mean over some edges."""
    chosen = [edge in edges for edge in run.config.space.edges]
    return float(run.none_probability.isel(epoch=-1).values[chosen].mean())


def relabelled(run: Run) -> float:
    """The effect of P2 if one input edge, drawn by seed, is called the intermediate one."""
    edges = list(run.config.space.input_edges)
    rng = np.random.default_rng(stream_seed(run.config.seed, "relabel"))
    called = edges.pop(rng.integers(len(edges)))
    return none_on(run, [called]) - none_on(run, edges)


@claim("P2", **BOOK["P2"])
def width_preference(arms: Arms) -> Evidence:
    runs = arms[ONE]
    space, ended = runs[0].config.space, [run for run in runs if not run.diverged]
    inputs, inner = (each(none_on, runs, e) for e in (space.input_edges, space.intermediate_edges))
    chance = {run.config.seed: topology.chance(run.wiring, topology.depth) for run in ended}
    depths = each(lambda run: topology.depth(run.wiring), runs)
    expected = each(lambda run: chance[run.config.seed].mean(), runs)
    return Evidence(
        inner - inputs,
        f"p(none) ends at {inner.mean():.2f} on intermediate and at {inputs.mean():.2f} on input "
        f"edges. The final wirings have depth {depths.mean():.2f}, random wirings with as many "
        f"edges {expected.mean():.2f}.",
        p=max(above(inner - inputs), below_chance(depths.dropna(), chance.values())),
        control=each(relabelled, runs),
        testable=all(run.active_edges.values[-1] >= 1 for run in ended),
        values={
            "p(none) on input edges": inputs,
            "p(none) on intermediate edges": inner,
            "depth at the end": depths,
            "depth by chance": expected,
        },
    )


def overfitted(runs: Sequence[Run]) -> bool:
    """Whether training accuracy is above search accuracy by 0.03, the precondition of P3 and O1."""

    def gap(run: Run) -> float:  # mean over epochs of training
        accuracy = run.accuracy.isel(epoch=slice(1, None))
        return (accuracy.sel(split="train") - accuracy.sel(split="search")).mean()

    return each(gap, runs).mean() >= 0.03


@claim("P3", **BOOK["P3"])
def bilevel_failure(arms: Arms) -> Evidence:
    one, two, same = (each(kept_edges_at, arms[a], -1) for a in (ONE_OF_FEWER, TWO, NOT_HELD_OUT))
    edges = len(arms[TWO][0].config.space.edges)
    control, kept = same - two, {ONE: one, TWO: two, NOT_HELD_OUT: same}
    # A run that diverged counts as what speaks against the claim.
    enough = two.fillna(edges).mean() <= 0.4 * edges and one.fillna(0).mean() >= 0.6 * edges
    return Evidence(
        (one - two) / edges,
        f"Of {edges} edges two levels keep {two.mean():.1f} on average, one level {one.mean():.1f} "
        f"and two levels with nothing held out {same.mean():.1f}. Two levels keep fewer than one "
        f"in {(two < one).sum()} of {len(two)} seeds, and no edge at all in {(two == 0).sum()}.",
        p=above(one - two),
        control=control / edges,
        met=enough and control.fillna(0).mean() >= 0.4 * edges,
        testable=overfitted(arms[TWO]),
        values={f"edges kept, {arm}": number for arm, number in kept.items()},
    )


@claim("O1", **BOOK["O1"])
def recovery(arms: Arms) -> Evidence:
    one, two, same = (each(regrown_edges, arms[arm]) for arm in (ONE_OF_FEWER, TWO, NOT_HELD_OUT))
    control = same - one
    return Evidence(
        one - two,
        f"One level grows back {one.mean():.1f} edges on average, two levels {two.mean():.1f}, two "
        f"levels with nothing held out {same.mean():.1f}.",
        p=above(one - two),
        control=control,
        met=abs(control.mean()) <= 1,
        testable=overfitted(arms[TWO]),
        values={f"regrown, {arm}": v for arm, v in ((ONE, one), (TWO, two), (NOT_HELD_OUT, same))},
    )
