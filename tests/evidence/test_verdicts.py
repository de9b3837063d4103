"""Each claim on made histories that have the effect, and on ones that have not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas
import pytest

from nascore import Run, SearchConfig
from nascore.evidence.claims import Evidence
from nascore.evidence.experiments import (
    EXPERIMENTS,
    NOT_HELD_OUT,
    ONE,
    ONE_OF_FEWER,
    TWO,
)
from nascore.evidence.significance import SIGNIFICANCE
from nascore.evidence.verdicts import CLAIMS, in_order, judge
from nascore.runs.history import History

SEEDS = 8
FIVE = SearchConfig(dataset="synthetic", train_examples=96, cells=2, epochs=6, valid_examples=32)


@cache
def empty(config):
    """The history of a run with ten examples of each outcome, in which all else is 0."""
    history = History(config.space, epochs=config.epochs, cells=config.cells)
    for name, array in history.arrays.items():
        array[...] = 10 if name == "examples" else 0
    return history.to_xarray()


with_seed = cache(lambda config, seed: config.replace(seed=seed))


def made(seed=0, alpha=None, config=FIVE, **variables):
    """A run with these variables; alpha (epochs + 1, edges, operations) gives the probabilities."""
    history = empty(config).copy(deep=True)
    if alpha is not None:
        weight = np.exp(alpha)
        variables["alpha"] = alpha
        variables["probability"] = weight / weight.sum(axis=2, keepdims=True)
    for name, values in variables.items():
        history[name].values[...] = values
    return Run(with_seed(config, seed), history, {})


def preferring_none(amount):
    """alpha in which `none` is ahead by amount (epochs + 1, edges), of the others one by 1."""
    alpha = np.zeros((*np.shape(amount), 8))
    alpha[..., 0], alpha[..., 4] = amount, 1.0
    return alpha


def costs(by_edge, output=None):
    """Costs of two cells with these values on the edges, (edges,), in every epoch."""
    cost = np.zeros((7, 2, 5, 8))
    cost[..., 1:] = np.asarray(by_edge)[:, None]
    brought = np.zeros((7, 2))
    brought[:, -1] = np.sum(by_edge) if output is None else output
    return {"cost_mean": cost, "cost_count": 1, "cell_output_cost": brought}


def verdict(claim, arms):
    return judge(claim, CLAIMS[claim].measure(arms))


def noise(rng, shape, size=0.1):
    return size * rng.normal(size=shape)


RISE_AND_FALL = np.array([0, 1, 2, 3, 2, 1, -1.0])[:, None] * np.array([1, 1, 1, 1, 0])
"""How far none is ahead where four edges are lost and come back, (epochs + 1, edges)."""
TURNED = np.array([0.5, 0.5, 0.5, 0.5, -0.5, -0.5, -0.5])
"""L - H of such a search, (epochs + 1,)."""
BI = FIVE.replace(level="bi", search_examples=96)


def course(train, search=0.0):
    """Loss and entropy whose difference follows these courses, each (7,) or a number."""
    loss = np.ones((7, 3, 2))
    loss += np.stack([np.broadcast_to(v, 7) for v in (train, search, 0.0)], axis=1)[..., None]
    return {"loss": loss, "entropy": 1.0}


def answers(train=0.9, search=0.6):
    """Right and wrong answers of 100 with these accuracies, (epoch, split, outcome)."""
    right = 100 * np.array([train, search, 0.5])
    return {"examples": np.tile(np.stack([right, 100 - right], axis=1), (7, 1, 1))}


def arms_of(claim, rng, effect=1.0, level=0.1):
    """Made runs of a claim's experiment, with its effect (1) or without (0), and with noise."""
    seeds = range(SEEDS)
    if claim in ("P1", "P2", "P3", "O1"):
        deep = np.array([0, 0, 0, 0, 3.0])
        grown = 1.5 * RISE_AND_FALL + (deep if claim == "P2" else 0 * deep)
        gone = np.minimum(np.arange(7), 3)[:, None] * (1 + 0.2 * np.arange(5))

        def arm(config, ahead, seen):
            walk = (np.cumsum(noise(rng, (7, 5, 8), level), axis=0) for _ in seeds)
            return [
                made(s, preferring_none(ahead) + next(walk), config, **seen | answers())
                for s in seeds
            ]

        back = max(effect, 0) * grown + min(effect, 0) * (gone if claim == "P3" else deep)
        lost = effect * gone
        return {
            ONE: arm(FIVE, back, course(TURNED)),
            TWO: arm(BI, lost, course(-TURNED, 0.4)),
            ONE_OF_FEWER: arm(BI.replace(level="single"), back, course(TURNED)),
            NOT_HELD_OUT: arm(BI, back, course(TURNED, TURNED)),
        }
    if claim == "A5":

        def arm(search):
            seen = (course(-0.4 * effect + noise(rng, (), level), search * effect) for _ in seeds)
            return [
                made(s, config=BI, **course_of(next(seen), noise(rng, (), level))) for s in seeds
            ]

        return {TWO: arm(0.5), NOT_HELD_OUT: arm(-0.4)}
    if claim == "A1":
        slope = np.linspace(1, -1, 7)[:, None, None, None] * effect
        cost = [slope + noise(rng, (7, 2, 5, 8), level) for _ in seeds]
        for c in cost:
            c[..., 0] = 0
        return {"uniform masks": [made(s, cost_mean=cost[s], cost_count=1) for s in seeds]}
    if claim == "A6":
        free, fixed = np.array([0, 0, 0, -1.0, 1.0]), np.array([0, 0, 0, 1.0, -1.0])
        return {
            arm: [made(s, **costs(effect * by_edge + noise(rng, 5, level))) for s in seeds]
            for arm, by_edge in (("free", free), ("fixed", fixed))
        }
    raise AssertionError(claim)


def course_of(seen, shift):
    """A course whose search set is shifted."""
    seen["loss"][:, 1] += shift
    return seen


TESTED = [name for name, claim in CLAIMS.items() if claim.tested]


@pytest.mark.parametrize("claim", TESTED)
def test_an_effect_is_found(claim):
    for draw in range(3):
        found = verdict(claim, arms_of(claim, np.random.default_rng(draw)))
        assert found.verdict == "supported", (draw, found)
        assert found.n == SEEDS and found.p <= SIGNIFICANCE
        assert found.interval[0] <= found.effect <= found.interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("claim", TESTED)
def test_without_an_effect_a_test_finds_one_no_more_often_than_its_level(claim):
    """20 experiments of eight seeds that differ by noise alone, and p before it is corrected."""
    rng = np.random.default_rng(7)
    found = [CLAIMS[claim].measure(arms_of(claim, rng, effect=0.0)) for _ in range(20)]
    assert np.mean([f.p <= SIGNIFICANCE for f in found]) <= SIGNIFICANCE + 2 * 0.049
    supported = [judge(claim, f).verdict == "supported" for f in found]
    assert np.mean(supported) <= SIGNIFICANCE


@pytest.mark.parametrize("claim", TESTED)
def test_the_reverse_of_an_effect_is_not_supported(claim):
    found = verdict(claim, arms_of(claim, np.random.default_rng(0), effect=-1.0))
    assert found.verdict == "not supported"


def test_the_claims_are_those_of_the_paper_and_one_of_ours():
    ids = ["P1", "P2", "P3", "O1"] + [f"A{n}" for n in range(1, 8)]
    assert [claim.id for claim in in_order()] == ids and set(CLAIMS) == set(ids)
    assert all(claim.experiment in {*EXPERIMENTS, None} for claim in CLAIMS.values())
    assert all(claim.because for claim in CLAIMS.values() if claim.tested)


def test_growing_reads_edges_the_turn_and_what_none_loses():
    evidence = CLAIMS["P1"].measure(arms_of("P1", np.random.default_rng(0), level=0.0))
    values = {name: each[0] for name, each in evidence.values.items()}
    assert values["edges at the start"] == 5 and values["fewest edges"] == 1
    assert values["edges at the end"] == 5 and values["edges dropped at some time"] == 4
    assert values["edges regrown"] == 4 and values["edges regrown, updates reversed"] == 0
    assert values["epoch of the turn"] == 3
    assert values["lead of none lost after it"] == pytest.approx(6.0)
    assert evidence.effect[0] == 4
    assert evidence.table().loc["fewest edges", 0] == "1"


def test_growing_needs_a_loss_after_the_turn_as_well_as_edges():
    """Edges that come back while L - H is still positive did not come back because of it."""
    arms = arms_of("P1", np.random.default_rng(0))
    late = course(np.array([0.5] * 6 + [0.4]))
    arms[ONE] = [
        Run(r.config, r.history.assign(loss=(["epoch", "split", "outcome"], late["loss"])), {})
        for r in arms[ONE]
    ]
    found = verdict("P1", arms)
    assert found.effect > 3 and found.p == 1.0 and found.verdict != "supported"


@pytest.mark.parametrize("claim", ["P1", "P2", "P3", "O1"])
def test_where_its_cause_cannot_act_a_claim_is_not_tested(claim):
    arms = arms_of(claim, np.random.default_rng(0))
    if claim == "P1":  # never overconfident
        without = course(-0.1)
    elif claim == "P2":  # one seed loses every edge
        without = {"probability": np.eye(8)[0]}
    else:  # the training set is no better known than the search set
        without = answers(0.6, 0.6)
    arm = ONE if claim in ("P1", "P2") else TWO
    runs = arms[arm][:1] if claim == "P2" else arms[arm]
    for run in runs:
        for name, values in without.items():
            run.history[name].values[...] = values
    arms[arm] = [Run(run.config, run.history, {}) for run in arms[arm]]
    found = verdict(claim, arms)
    assert found.verdict == "not tested here"
    assert CLAIMS[claim].precondition in found.why


@pytest.mark.parametrize("claim", ["P3", "O1"])
def test_it_must_be_holding_out_that_fails(claim):
    """Two levels that fail as much with nothing held out speak of the level, not of the data."""
    arms = arms_of(claim, np.random.default_rng(0))
    arms[NOT_HELD_OUT] = arms[TWO]
    found = verdict(claim, arms)
    assert found.p <= SIGNIFICANCE and found.verdict == "not supported"


def test_width_needs_depth_below_chance():
    """p(none) higher on the intermediate edge, which is kept all the same: depth 2."""
    amount = np.zeros((7, 5))
    amount[:, 4] = 0.9
    runs = [made(s, preferring_none(amount)) for s in range(SEEDS)]
    found = verdict("P2", {ONE: runs})
    assert found.effect > 0 and found.p == 1.0 and found.verdict != "supported"


def test_failure_asks_for_both_shares():
    arms = arms_of("P3", np.random.default_rng(0), level=0.01)
    half = preferring_none(np.tile([3.0, 3.0, 0, 0, 0], (7, 1)))
    arms[TWO] = [made(s, half, BI, **answers()) for s in range(SEEDS)]
    found = verdict("P3", arms)
    assert found.p <= SIGNIFICANCE and found.effect == pytest.approx(0.4)
    assert found.verdict == "not supported"  # two levels keep three fifths


def test_too_few_seeds_are_undecided_and_say_so():
    arms = arms_of("P1", np.random.default_rng(0))
    found = verdict("P1", {ONE: arms[ONE][:3]})
    assert found.verdict == "undecided"
    assert "With n = 3, no result could be below the level" in found.why
    assert "undecided" in str(found) and "n = 3" in str(found)


@pytest.mark.parametrize("broken", ["alpha", "loss"])
@pytest.mark.parametrize("claim", TESTED)
def test_a_run_that_diverged_counts_as_no_effect_and_is_shown(claim, broken):
    arms = arms_of(claim, np.random.default_rng(0))
    first = TWO if claim in ("P3", "O1") else next(iter(arms))
    history = arms[first][0].history.copy(deep=True)
    for name in ("alpha", "probability") if broken == "alpha" else ("loss",):
        history[name][3:] = np.nan
    diverged = Run(arms[first][0].config, history, {})
    assert diverged.diverged and not arms[first][0].diverged
    evidence = CLAIMS[claim].measure({**arms, first: [diverged, *arms[first][1:]]})
    assert np.isnan(evidence.effect[0]) and not np.isnan(evidence.effect[1:]).any()
    assert evidence.table().loc["effect", 0] == "diverged"
    found, whole = judge(claim, evidence), verdict(claim, arms)
    assert found.n == SEEDS and found.effect < whole.effect and found.p > whole.p
    assert found.verdict != "not supported" and "nan" not in found.why


@pytest.mark.parametrize("claim", ["A2", "A3", "A4"])
def test_identities(claim):
    """A residual below the bar holds, one above it or a NaN does not."""

    def arms(residual):
        by_edge = np.array([0.1, 0.1, 0.1, 0.1, -0.9])
        values = costs(by_edge, -0.5) | course(-0.5)
        if claim == "A2":
            values |= course(-0.5 + residual)
        if claim == "A3":
            values |= costs(np.full(5, (-0.5 + residual) / 35), -0.5)
        if claim == "A4":
            values["cell_output_cost"][3, 0] = residual
        run = made(0, **values)
        return (
            {"without": [run], "with skip_connect": [made(0, **costs(by_edge, -0.5))]}
            if (claim == "A3")
            else {"2 cells": [run]}
        )

    bar = CLAIMS[claim].bar
    good, bad = verdict(claim, arms(0.2 * bar)), verdict(claim, arms(3 * bar))
    assert good.verdict == "holds" and good.p is None and good.control > 10 * bar
    assert bad.verdict == "fails" and bad.effect > bar
    assert verdict(claim, arms(np.nan)).verdict == "fails"


@pytest.mark.slow
def test_deep_linear_dynamics():
    found = verdict("A7", {})
    assert found.verdict == "holds" and found.control > 10 * CLAIMS["A7"].bar


def test_a_verdict_says_what_it_rests_on():
    text = str(judge("P1", Evidence(pandas.Series([1.0, 2.0]), "Seen.", p=0.25)))
    assert text.startswith("**P1: undecided.** Seen.")
    assert "(n = 2, effect +1.5 edges [" in text and text.endswith("corrected p = 1)")


def test_a_claim_that_is_not_registered_is_tested_alone():
    mine = replace(CLAIMS["P1"], measure=lambda arms: None, bar=0.0)
    mine.measure.__module__ = "mine"
    effect = pandas.Series([1.0, -1, 1, -1, 1.5])
    assert judge(mine, Evidence(effect, "Seen.", p=0.4)).p == 0.4
