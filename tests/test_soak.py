"""A sample of the soak: a few of each attack, which must not fail; and that a failure is seen."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from soak import trials

    return trials


def soak(folder, **most):
    """The soak with so many tries of each attack; others are left out."""
    attacks = ("kill", "placed", "record", "checkpoint", "sweeps", "bad")
    words = [f"--{name}={most.get(name, 0)}" for name in attacks]
    command = [sys.executable, "-m", "soak", "--folder", str(folder), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.long
def test_a_sample_of_the_soak(tmp_path):
    most = {"kill": 1, "placed": 1, "record": 50, "checkpoint": 20, "bad": 3}
    first = soak(tmp_path, **most)
    assert first.returncode == 0, first.stdout + first.stderr
    for name in (
        "flips in a record",
        "flips in a checkpoint",
        "kills at every place",
        "bad inputs",
    ):
        assert name in first.stdout
    again = soak(tmp_path, **most)  # goes on where it was: there is nothing left to try
    assert again.returncode == 0 and again.stdout == first.stdout


def test_a_trial_is_the_same_whenever_it_is_made(trials, tmp_path):
    drawn = []

    def trial(number, chance, folder):
        drawn.append(chance.random())
        return 2, ["broken"] if number == 1 else []

    attack = trials.Attack("test", 5, trial)
    results = trials.run(attack, 7, tmp_path / "kept")
    assert [(r.number, r.tries, r.failures) for r in results] == [
        (0, 2, []),
        (1, 2, ["broken"]),
        (2, 2, []),
    ]
    assert trials.run(attack, 7, tmp_path / "kept") == results and len(drawn) == 3
    trials.run(attack, 7, tmp_path / "other")
    assert drawn[3:] == drawn[:3] and len(set(drawn)) == 3
    lines = (tmp_path / "kept").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2]
    assert trials.table(results).splitlines()[1].split()[:3] == ["test", "6", "1"]


def test_flips_that_are_silent_and_tracebacks_are_seen(trials, tmp_path):
    from soak.flips import what_comes_of

    def careless(path):
        return path.read_bytes()

    def hasty(path):
        if path.read_bytes() != b"abc":
            raise ValueError("no")

    for read, said in ((careless, "it is read, and differs"), (hasty, "ValueError")):
        lines = what_comes_of(b"abc", [0, 2], random.Random(0), tmp_path / "x", read)
        assert len(lines) == 2 and all(said in line for line in lines)
