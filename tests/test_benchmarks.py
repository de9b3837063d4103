"""The runner of the benchmarks, without its timings; and the results that the book shows."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nascore.engine.mask import Mask
from nascore.engine.operations import OPERATIONS
from nascore.runs.algorithm import Search

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules ``measure`` and ``cases``."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import cases
    import measure

    return measure, cases


def test_rounds_take_turns_and_begin_with_another_step_each_time(benchmarks):
    measure, _ = benchmarks
    ran = []
    steps = {name: lambda name=name: ran.append(name) for name in "abc"}
    times = measure.rounds(steps, 3, torch.device("cpu"), "turns")
    assert "".join(ran) == "abc" + "abc" + "bca" + "cab"  # once to warm up
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratio_is_taken_within_a_round(benchmarks):
    """A machine that slows down in one round does not move the ratio."""
    measure, _ = benchmarks
    row = measure.ratio({"a": [2.0, 20.0, 4.0], "b": [1.0, 10.0, 2.0]}, "a", "b", "<= 3")
    assert (row["ratio"], row["low"], row["high"]) == (2.0, 2.0, 2.0)
    assert (row["seconds"], row["baseline_seconds"], row["rounds"]) == (4.0, 2.0, 3)


def test_exponent_of_a_power_with_a_fixed_cost(benchmarks):
    """Only the upper half counts: the fixed cost of small shapes does not flatten the slope."""
    measure, _ = benchmarks
    x = [1, 2, 4, 8, 1000, 2000, 4000, 8000]
    assert measure.exponent(x, [value**1.5 for value in x]) == pytest.approx(1.5)
    assert measure.exponent(x, [3 + value**1.5 for value in x]) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("level", ["single", "bi"])
def test_a_whole_step_is_that_of_the_search(benchmarks, tiny, level):
    """An epoch of the benchmark's steps has the alpha of a search's epoch."""
    _, cases = benchmarks
    config = tiny.replace(level=level, valid_examples=0, search_examples=96 * (level == "bi"))
    one, other = Search(config), Search(config)
    for search in (one, other):
        search.epoch()
    (group,) = other.theta_optimiser.param_groups
    group["lr"] = config.learning_rate(1)
    step = cases.whole_step(other)
    for _ in range(other.steps):
        step()
    one.epoch()
    assert torch.equal(one.alpha, other.alpha) and (one.alpha.grad != 0).any()


def test_the_candidates_are_forgotten(benchmarks, monkeypatch):
    """Of 16 candidates every one has its modules, and the registry is as before."""
    _, cases = benchmarks
    before, made = dict(OPERATIONS), []
    small = functools.partial(cases.setup_at, size=8, batch=8, cells=1, channels=4)
    monkeypatch.setattr(cases, "setup_at", lambda **s: made.append(small(**s)) or made[-1])
    rows = cases.candidates("cpu", 2)["rows"]
    assert [row["step"] for row in rows] == ["8 candidates", "16 candidates"]
    assert [len(setup.supernet.cells[0].operations[0]) for setup in made] == [3, 7, 15]
    assert dict(OPERATIONS) == before


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["discrete", "dense", "growth", "candidates", "bookkeeping"])
def test_a_case_runs(benchmarks, monkeypatch, name):
    """At the smallest shape, whatever shape it asks for."""
    _, cases = benchmarks
    small, made = {"size": 8, "batch": 8, "cells": 1, "channels": 4}, cases.setup_at
    monkeypatch.setattr(cases, "BATCH", small["batch"])
    monkeypatch.setattr(cases, "setup_at", lambda **settings: made(**{**settings, **small}))
    found = cases.CASES[name]("cpu", 2)
    rows = found.get("rows") or found["series"]
    assert len(rows) >= 2
    assert all(np.min(row.get("ratio", row["seconds"])) > 0 for row in rows)


def test_the_textbook_step_is_the_same_function(benchmarks):
    """Against the search's own dense step: alpha's cost of one batch, in float32."""
    _, cases = benchmarks
    costs = []
    for change in (lambda setup: None, cases.baselines.textbook):
        setup = cases.setup_at(size=8, batch=8, framework="darts", cells=2, channels=4)
        change(setup)
        images, labels = setup.batch()
        last = images.is_contiguous(memory_format=torch.channels_last)
        assert last == (not costs)  # the textbook's images are NCHW
        seen = setup.step((images, labels), [])
        costs.append(seen.cost)
    assert torch.allclose(*costs, atol=1e-5) and (costs[0].abs() > 1e-4).any()


def test_the_plain_network_is_the_sampled_one(benchmarks):
    """With the weights of the supernet it has the logits of the one-hot mask."""
    _, cases = benchmarks
    setup = cases.setup_at(size=8, batch=8, cells=2, channels=4)
    names = ("sep_conv_3x3", "none", "max_pool_3x3", "dil_conv_5x5", "skip_connect")
    wiring = cases.Wiring(setup.space, names)
    plain = cases.baselines.PlainNetwork(wiring, 3, 10, 2, 4)
    plain.stem.load_state_dict(setup.supernet.stem.state_dict())
    plain.classifier.load_state_dict(setup.supernet.classifier.state_dict())
    for c, cell in enumerate(setup.supernet.cells):
        for mine, other in zip(plain.preprocess[c], cell.preprocess, strict=True):
            mine.load_state_dict(other.state_dict())
        for mine, (edge, name) in zip(plain.operations[c], plain.edges, strict=True):
            modules = cell.operations[setup.space.edges.index(edge)]
            k = str(setup.space.operations.index(name))
            mine.load_state_dict(modules[k].state_dict())
    images, _ = setup.batch()
    cases.sample_only(setup, names)
    mask = setup.draw()
    assert mask.active == Mask.of(wiring).active
    assert torch.allclose(plain(images), setup.supernet(images, mask.weight, mask), atol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_the_runner_adds_a_case_to_the_results(tmp_path):
    out = tmp_path / "results.json"
    out.write_text('{"kept": {}}', encoding="utf-8")
    command = [sys.executable, str(FOLDER / "run.py"), "--only", "start", "--rounds", "2"]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    results = json.loads(out.read_bytes())
    assert set(results) == {"kept", "start"}
    assert results["start"]["made"]["torch"] == torch.__version__
    assert all(row["seconds"] > 0 for row in results["start"]["rows"])
    result = subprocess.run([*command, "--device", "cuda:9"], capture_output=True, encoding="utf-8")
    assert torch.cuda.is_available() or "torch sees no GPU here" in result.stderr


def test_the_results_of_the_book_are_whole(benchmarks):
    """Every case, each with at least 8 rounds, whatever the ratios came out to be."""
    _, cases = benchmarks
    results = json.loads((FOLDER / "results" / "cpu.json").read_bytes())
    assert set(results) == set(cases.CASES)
    for case in results.values():
        assert case["made"]["rounds"] >= 8
        assert case["made"]["device"].startswith("cpu")


def test_the_readme_quotes_the_results():
    results = json.loads((FOLDER / "results" / "cpu.json").read_bytes())
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    price = results["discrete"]["rows"][0]["ratio"]
    faster = results["dense"]["rows"][0]["ratio"]
    memory = results["memory"]["ratio"]["DARTS"]
    assert f"a DSNAS step takes {price:.2f} times a plain network" in text
    assert f"{faster:.1f} times as fast as one written down edge by edge, in {memory:.2f}" in text
