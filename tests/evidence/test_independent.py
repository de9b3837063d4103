"""P1, P2, P3 and O1 once more, from the records alone: h5py, numpy and the registered words.

Of the package only the addresses of the records are used. A record is of the minimal cell: four
input edges and the intermediate edge (2,3).
"""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from nascore import RunStore
from nascore.evidence import CLAIMS, configs_of, judge, load_experiment

STORE = RunStore(Path(__file__).parents[2] / "book" / "records")
ONE, TWO, FEWER, SAME = (
    *("one level", "two levels"),
    *("one level, fewer examples", "two levels, nothing held out"),
)
TESTED = 7  # P1 to P3, O1, A1, A5, A6
T_15 = 2.131449545559323  # 97.5 percent of Student's t with 15 freedoms, from a table


def read(path, level):
    """What is needed of a record: alpha with `none` first, p likewise, L - H, accuracies."""
    with h5py.File(path) as file:
        names = [name.decode() for name in file["operation"][:]]
        edges = [name.decode() for name in file["edge"][:]]
        splits = [name.decode() for name in file["split"][:]]
        outcomes = [name.decode() for name in file["outcome"][:]]
        arrays = {name: file[name][:].astype(float) for name in ("alpha", "probability")}
        arrays |= {name: file[name][:].astype(float) for name in ("loss", "entropy", "examples")}
    assert names[0] == "none" and edges == ["(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)"]
    examples = arrays["examples"]  # (epochs + 1, splits, outcomes)
    with np.errstate(invalid="ignore"):
        accuracy = examples[:, :, outcomes.index("right")] / examples.sum(axis=2)
        summed = np.nansum((arrays["loss"] - arrays["entropy"]) * examples, axis=2)
        cost = summed / examples.sum(axis=2)
    seen = splits.index("train" if level == "single" else "search")
    return SimpleNamespace(
        alpha=arrays["alpha"],
        p=arrays["probability"],
        cost=cost[:, seen],
        train=accuracy[1:, splits.index("train")],
        search=accuracy[1:, splits.index("search")],
    )


@pytest.fixture(scope="module")
def records():
    """The 64 records of the picture, by arm."""
    arms = configs_of("picture", "published")
    assert set(arms) == {ONE, TWO, FEWER, SAME}
    assert all([c.seed for c in there] == list(range(24, 40)) for there in arms.values())
    return {arm: [read(STORE.path(c), c.level) for c in there] for arm, there in arms.items()}


@pytest.fixture(scope="module")
def said():
    """Evidence and verdict of each claim, as the package has them."""
    arms = load_experiment("picture", "published", STORE)
    evidence = {name: CLAIMS[name].measure(arms) for name in ("P1", "P2", "P3", "O1")}
    return {name: (found, judge(name, found)) for name, found in evidence.items()}


def gone(alpha):
    """Whether alpha of `none` is 0.1 above alpha of every other operation, (epochs + 1, edges)."""
    return alpha[..., 0] - 0.1 >= alpha[..., 1:].max(axis=-1)


def grown_back(alpha):
    dropped = gone(alpha)
    return np.count_nonzero(dropped[1:].any(axis=0) & ~dropped[-1])


def backwards(alpha):
    """After k of the reversed updates: the start, and what the last k updates did."""
    return alpha[0] + alpha[-1] - alpha[::-1]


def flips(effects):
    """p of a sum this high among those of all changes of sign."""
    sums = np.zeros(1)
    for effect in effects:
        sums = np.concatenate([sums + effect, sums - effect])
    assert len(sums) == 2**16
    return np.mean(sums >= np.sum(effects) - 1e-9)


def verdict(effects, p, bar, met, testable):
    mean, half = np.mean(effects), T_15 * np.std(effects, ddof=1) / 4
    if not testable:
        return "not tested here"
    if TESTED * p <= 0.05 and mean >= bar - 1e-12 and met:
        return "supported"
    return "not supported" if mean + half < bar - 1e-12 or not met else "undecided"


def agrees(said, effects, p, **rest):
    """Effects to 1e-6, p and interval to rounding, and the verdict."""
    evidence, judged = said
    assert np.abs(evidence.effect - effects).max() < 1e-6 < np.ptp(effects)
    assert evidence.p == pytest.approx(p, abs=1e-12)
    half = T_15 * np.std(effects, ddof=1) / 4
    assert judged.interval == pytest.approx((np.mean(effects) - half, np.mean(effects) + half))
    assert judged.p == pytest.approx(min(1, TESTED * p)) and judged.n == 16
    assert judged.verdict == verdict(effects, p, **rest)


def test_growing(records, said):
    """The package asks for the lead of `none`, too, which was not registered: p may be larger."""
    runs = records[ONE]
    effects = np.array([grown_back(r.alpha) - grown_back(backwards(r.alpha)) for r in runs])
    lost, lead = [], []
    for run in runs:
        total = [run.cost[: epoch + 1].sum() for epoch in range(len(run.cost))]
        turn = total.index(max(total))
        p = run.p[:, :4]
        ahead = np.mean(np.log(p[..., 0] / p[..., 1:].mean(axis=2)), axis=1)
        lost.append(ahead[turn] - ahead[-1])
        ahead = np.mean(np.log(p[..., 0]) - np.log(p[..., 1:]).mean(axis=2), axis=1)
        lead.append(ahead[turn] - ahead[-1])
    dropped = np.mean([gone(run.alpha)[1:].any(axis=0).sum() for run in runs])
    positive = np.mean([np.mean(run.cost[1:] > 0.1) for run in runs])
    registered = max(flips(effects), flips(lost))
    asked = {"bar": 2, "met": dropped >= 2, "testable": positive >= 0.1}
    agrees(said["P1"], effects, max(registered, flips(lead)), **asked)
    assert said["P1"][1].verdict == verdict(effects, registered, **asked)
    values = said["P1"][0].values
    assert values["advantage of none lost after it"].tolist() == pytest.approx(lost, abs=1e-6)


def longest(kept):
    """Edges on the longest path from node 0 or 1 to node 2 or 3, for a cell's five edges."""
    into_2, into_3 = bool(kept[0] or kept[1]), bool(kept[2] or kept[3])
    return 2 if into_2 and kept[4] else int(into_2 or into_3)


def test_width(records, said):
    runs = records[ONE]
    none = np.array([run.p[-1, :, 0] for run in runs])  # (seeds, edges)
    effects = none[:, 4] - none[:, :4].mean(axis=1)
    kept = np.array([run.p[-1, :, 0] < run.p[-1, :, 1:].max(axis=1) for run in runs])
    low = np.ones(1)  # the distribution of the sum of depths by chance
    for count in kept.sum(axis=1):
        chosen = [longest([e in some for e in range(5)]) for some in combinations(range(5), count)]
        low = np.convolve(low, np.bincount(chosen) / len(chosen))
    shallow = low[: sum(map(longest, kept)) + 1].sum()
    p = max(flips(effects), shallow)
    agrees(said["P2"], effects, p, bar=0.5, met=True, testable=kept.any(axis=1).all())


def over_fitted(runs):
    """Accuracy on the training set above that on the search set, mean over epochs and seeds."""
    return np.mean([np.mean(run.train - run.search) for run in runs]) >= 0.03


def test_failure(records, said):
    """In edges of five, so that shares are exact: a bar of 0.4 is two edges."""
    one, two, same = (
        np.array([5 - gone(run.alpha[-1]).sum() for run in records[arm]])
        for arm in (FEWER, TWO, SAME)
    )
    met = np.mean(same - two) >= 2 and np.mean(two) <= 2 and np.mean(one) >= 3
    share, testable = (one - two) / 5, over_fitted(records[TWO])
    agrees(said["P3"], share, flips(one - two), bar=0.4, met=met, testable=testable)
    assert np.abs(said["P3"][0].control - (same - two) / 5).max() < 1e-6


def test_recovery(records, said):
    one, two, same = (
        np.array([grown_back(run.alpha) for run in records[arm]]) for arm in (FEWER, TWO, SAME)
    )
    met, testable = abs(np.mean(same - one)) <= 1, over_fitted(records[TWO])
    agrees(said["O1"], one - two, flips(one - two), bar=1, met=met, testable=testable)
    assert np.abs(said["O1"][0].control - (same - one)).max() < 1e-6
