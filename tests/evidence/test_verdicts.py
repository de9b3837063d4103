"""Each claim on made histories that have the effect, and on ones that have not."""

import shutil
from functools import cache

import numpy as np
import pytest

from nascore import Run, RunStore, SearchConfig, search
from nascore.evidence.claims import Evidence
from nascore.evidence.experiments import EXPERIMENTS, searches
from nascore.evidence.phenomena import arc, shuffled
from nascore.evidence.significance import SIGNIFICANCE
from nascore.evidence.verdicts import CLAIMS, in_order, judge, scorecard, verdicts
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


def output_cost(train=0.0, search=0.0, valid=0.0):
    """Loss and entropy whose difference is this, (epoch, split, outcome)."""
    loss = np.ones((7, 3, 2))
    loss += np.array([train, search, valid])[:, None]
    return {"loss": loss, "entropy": 1.0}


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


RISE_AND_FALL = np.array([0, 1, 2, 3, 2, 1, 0.5])[:, None] * np.ones(5)


def arms_of(claim, rng, effect=1.0, level=0.1):
    """Made runs of a claim's experiment, with its effect (1) or without (0), and with noise."""
    seeds = range(SEEDS)
    if claim == "P1":
        walk = [np.cumsum(noise(rng, (7, 5), level), axis=0) for _ in seeds]
        return {
            "single-level": [
                made(s, preferring_none(effect * RISE_AND_FALL + walk[s])) for s in seeds
            ]
        }
    if claim == "P2":
        deep = np.array([0, 0, 0, 0, 3.0])
        return {
            "single-level": [
                made(s, preferring_none(effect * deep + noise(rng, (7, 5), 4 * level)))
                for s in seeds
            ]
        }
    if claim in ("P3", "A5"):
        bi = FIVE.replace(level="bi", search_examples=96)
        lost = 3 * effect * np.ones(5)

        def arm(config, alpha, search):
            return [
                made(
                    s,
                    preferring_none(alpha + noise(rng, (7, 5), 10 * level)),
                    config,
                    **output_cost(
                        -0.4 * effect + noise(rng, (), level), search + noise(rng, (), level)
                    ),
                )
                for s in seeds
            ]

        return {
            "bi-level": arm(bi, lost, 0.5 * effect),
            "single-level": arm(bi.replace(level="single"), 0 * lost, 0.3),
            "control": arm(bi.replace(label_noise=0.0), 0 * lost, 0.0),
        }
    if claim == "A1":
        slope = np.linspace(1, -1, 7)[:, None, None, None] * effect
        cost = [slope + noise(rng, (7, 2, 5, 8), level) for _ in seeds]
        for c in cost:
            c[..., 0] = 0
        return {"uniform masks": [made(s, cost_mean=cost[s]) for s in seeds]}
    if claim == "A6":
        free, fixed = np.array([0, 0, 0, -1.0, 1.0]), np.array([0, 0, 0, 1.0, -1.0])
        return {
            arm: [made(s, **costs(effect * by_edge + noise(rng, 5, level))) for s in seeds]
            for arm, by_edge in (("free", free), ("fixed", fixed))
        }
    raise AssertionError(claim)


TESTED = [name for name, claim in CLAIMS.items() if claim.tested]


@pytest.mark.parametrize("claim", TESTED)
def test_an_effect_is_found(claim):
    for draw in range(5):
        found = verdict(claim, arms_of(claim, np.random.default_rng(draw)))
        assert found.verdict == "supported", (draw, found)
        assert found.n == SEEDS and found.p <= SIGNIFICANCE
        assert found.interval[0] <= found.effect <= found.interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("claim", TESTED)
def test_without_an_effect_a_claim_is_supported_no_more_often_than_the_level(claim):
    """200 experiments of eight seeds that differ by noise alone."""
    rng = np.random.default_rng(7)
    found = [verdict(claim, arms_of(claim, rng, effect=0.0)) for _ in range(200)]
    assert np.mean([f.verdict == "supported" for f in found]) <= SIGNIFICANCE
    assert (
        np.mean([f.p <= SIGNIFICANCE for f in found]) <= SIGNIFICANCE
    )  # the test by itself, without the bar


@pytest.mark.parametrize("claim", TESTED)
def test_the_reverse_of_an_effect_is_not_supported(claim):
    found = verdict(claim, arms_of(claim, np.random.default_rng(0), effect=-1.0))
    assert found.verdict == "not supported"


def test_the_claims_are_those_of_the_paper():
    assert sorted(CLAIMS) == ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "P1", "P2", "P3"]
    assert all(claim.experiment in {*EXPERIMENTS, None} for claim in CLAIMS.values())
    ids = ["P1", "P2", "P3"] + [f"A{n}" for n in range(1, 8)]
    assert [claim.id for claim in in_order()] == ids


def test_arc():
    assert arc(np.array([0.0, 3.0, 1.0])) == 2
    assert arc(np.array([0.0, 3.0, 5.0])) == 0
    assert arc(np.array([2.0, 0.0, 1.0])) == -1
    walk = np.random.default_rng(0).normal(size=50).cumsum()
    assert arc(-walk) == pytest.approx(-arc(walk))
    assert np.isnan(arc(np.array([0.0, np.nan, 1.0])))


def test_shuffled_updates_keep_both_ends():
    rng = np.random.default_rng(0)
    run = made(3, rng.normal(size=(7, 5, 8)).cumsum(axis=0))
    none, ordered = shuffled(run), run.none_probability.values
    assert np.allclose(none[[0, -1]], ordered[[0, -1]], atol=1e-6)
    assert not np.allclose(none[1:-1], ordered[1:-1], atol=1e-3)
    assert np.array_equal(none, shuffled(run))


@pytest.mark.parametrize("framework", ["dsnas", "fairdarts", "drnas", "pcdarts"])
def test_shuffled_updates_have_the_probability_of_the_framework(framework):
    """In float64 from records in float32: 1e-6."""
    changes = {
        "channels": 4,
        "epochs": 2,
        "arch_lr": 0.1,
        "allowed": {"(0,2)": ["none", "sep_conv_3x3"]},
    }
    run = search(FIVE.replace(framework=framework, device="cpu", **changes), progress=False)
    ends = run.none_probability.values[[0, -1]]
    assert np.allclose(shuffled(run)[[0, -1]], ends, atol=1e-6)
    assert np.abs(ends[1] - ends[0]).max() > 0.01


def test_growing_reads_edges_and_probability():
    drop = np.full((7, 5), -1.0)
    drop[2:4, :3] = 2.0  # three edges are lost in epochs 2 and 3
    evidence = CLAIMS["P1"].measure({"single-level": [made(0, preferring_none(drop))]})
    assert evidence.values["fewest edges"].tolist() == [2]
    assert evidence.values["epoch of the fewest"].tolist() == [2]
    assert evidence.values["edges at the end"].tolist() == [5]
    table = evidence.table()
    assert table.loc["fewest edges", 0] == "2"
    assert "effect" in table.index and "control" in table.index


def test_growing_needs_edges_as_well_as_probability():
    """p(none) that rises and falls without any edge lost is no growth."""
    bump = 0.2 * RISE_AND_FALL
    runs = [made(s, preferring_none(bump)) for s in range(SEEDS)]
    found = verdict("P1", {"single-level": runs})
    assert found.effect > 0 and found.verdict != "supported"


def test_width_needs_depth_below_chance():
    """p(none) higher on the intermediate edge, which is kept all the same: depth 2."""
    amount = np.zeros((7, 5))
    amount[:, 4] = 0.9
    runs = [made(s, preferring_none(amount)) for s in range(SEEDS)]
    found = verdict("P2", {"single-level": runs})
    assert found.effect > 0 and found.p == 1.0 and found.verdict != "supported"


def test_failure_asks_for_both_shares():
    rng = np.random.default_rng(0)
    arms = arms_of("P3", rng, level=0.01)
    half = [preferring_none(np.tile([3.0, 3.0, 3.0, 0, 0], (7, 1))) for _ in range(SEEDS)]
    arms["bi-level"] = [
        made(s, half[s], FIVE.replace(level="bi", search_examples=96)) for s in range(SEEDS)
    ]
    found = verdict("P3", arms)
    assert found.p <= SIGNIFICANCE and found.effect == pytest.approx(0.6)
    assert found.verdict == "not supported"  # bi-level keeps two fifths


def test_too_few_seeds_are_undecided_and_say_so():
    arms = arms_of("P1", np.random.default_rng(0))
    found = verdict("P1", {"single-level": arms["single-level"][:3]})
    assert found.verdict == "undecided"
    assert "With n = 3, no result could be below the level" in found.why
    assert "undecided" in str(found) and "n = 3" in str(found)


@pytest.mark.parametrize("broken", ["alpha", "loss"])
@pytest.mark.parametrize("claim", TESTED)
def test_a_run_that_diverged_counts_as_no_effect_and_is_shown(claim, broken):
    arms = arms_of(claim, np.random.default_rng(0))
    first = next(iter(arms))
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
    """A residual below the bar is supported, one above it or a NaN is not."""

    def arms(residual):
        by_edge = np.array([0.1, 0.1, 0.1, 0.1, -0.9])
        values = costs(by_edge, -0.5) | output_cost(-0.5, 0, -0.7)
        if claim == "A2":
            values |= output_cost(-0.5 + residual, 0, -0.7)
        if claim == "A3":
            values |= costs(np.full(5, (-0.5 + residual) / 35), -0.5)
        if claim == "A4":
            values["cell_output_cost"][3, 0] = residual
        run = made(0, **values)
        return (
            {"without": [run], "with skip_connect": [made(0, **costs(by_edge, -0.5))]}
            if (claim == "A3")
            else {"single-level": [run]}
        )

    bar = CLAIMS[claim].bar
    good, bad = verdict(claim, arms(0.2 * bar)), verdict(claim, arms(3 * bar))
    assert good.verdict == "supported" and good.p is None and good.control > 10 * bar
    assert bad.verdict == "not supported" and bad.effect > bar
    assert verdict(claim, arms(np.nan)).verdict == "not supported"


@pytest.mark.slow
def test_deep_linear_dynamics():
    found = verdict("A7", {})
    assert found.verdict == "supported" and found.control > 10 * CLAIMS["A7"].bar


@pytest.mark.slow
def test_every_claim_reads_real_runs(smoke_runs, tmp_path):
    """The smoke runs of every experiment go through its claim; nothing else is looked at."""
    store = RunStore(tmp_path)
    names = {claim.experiment for claim in CLAIMS.values()}
    assert list(verdicts("smoke", store)) == ["A7"] and scorecard(store) == {}
    for config in searches("smoke", names - {None}):
        shutil.copy(smoke_runs.path(config), tmp_path)
    found = verdicts("smoke", store)
    assert list(found) == [claim.id for claim in in_order()] and list(scorecard(store)) == ["smoke"]
    assert found["A2"].verdict == "supported"
    assert found["P1"].n == 3
    assert {v.verdict for v in found.values()} <= {"supported", "not supported", "undecided"}


def test_a_verdict_says_what_it_rests_on():
    text = str(judge("P1", Evidence([0, 1], np.array([1.0, 2.0]), "Seen.", p=0.25)))
    assert text.startswith("**P1: undecided.** Effect +1.5 p(none) (95 percent interval")
    assert "n = 2, corrected p = 1)" in text
