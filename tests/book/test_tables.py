import re
from dataclasses import replace

import nbformat
import numpy as np
import pandas
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from book.builder.execution_record import write_execution_record
from nascore import Run, search
from nascore.book.tables import RunTable, VerdictBox, scorecard_table
from nascore.evidence import CLAIMS, Evidence, claim, judge


@pytest.mark.parametrize("seeds", [((4, 5, 6), "4 to 6"), ((4, 6), "4, 6"), ((4,), "4")])
def test_seeds_are_a_range_if_none_is_left_out(tiny, run, seeds):
    several, words = seeds
    runs = [replace(run, config=tiny.replace(seed=seed)) for seed in several]
    page = RunTable({"arm": runs})._repr_mimebundle_()[0]["text/html"]
    assert f"<td>arm</td>\n      <td>{words}</td>" in page


def test_execution_record_lists_notebooks_versions_and_runs(tiny, tmp_path):
    run = search(tiny, progress=False)
    table, metadata = RunTable({"one level": [run]})._repr_mimebundle_()
    assert run.config.hash in table["text/html"]
    output = nbformat.v4.new_output("display_data", data=table, metadata=metadata)
    copies = []
    for name in ("one_page", "other"):
        cell = new_code_cell("RunTable(arms)", outputs=[output])
        papermill = {
            "parameters": {"profile": "smoke"},
            "duration": 12.3,
            "start_time": "2030-01-02T03:04:05",
        }
        copies.append(tmp_path / f"{name}.ipynb")
        nbformat.write(new_notebook(cells=[cell], metadata={"papermill": papermill}), copies[-1])
    page = write_execution_record(copies, tmp_path / "book").read_text(encoding="utf-8")
    assert page.count(run.config.hash) == 1  # a run that two pages share is one row
    for part in (
        "one page: one level; other: one level",
        "smoke",
        "12",
        "2030-01-02 03:04",
        run.provenance["torch"],
        run.provenance["device"],
        "cells=2, channels=4",
    ):
        assert part in page


def evidence(effect, p=0.001, **rest):
    """Of eight seeds with this effect."""
    return Evidence(pandas.Series(np.linspace(0.99, 1.01, 8) * effect), "A < B.", p=p, **rest)


@pytest.fixture
def own(monkeypatch):
    """A claim without a chapter, gone after the test."""
    monkeypatch.setattr(CLAIMS, "_known", dict(CLAIMS))
    words = dict.fromkeys(("effect", "test", "control"), "a number")
    claim(
        "X1",
        says="Values < 1.",
        short="Small < 1",
        because="Why & how.",
        experiment=None,
        bar=1.0,
        tested=False,
        **words,
    )(lambda arms: Evidence(pandas.Series([0.5]), "Seen."))
    return CLAIMS["X1"]


def test_the_scorecard_has_a_line_a_claim_and_a_column_a_profile(own):
    cards = {
        "published": {"P1": judge("P1", evidence(4)), "P2": judge("P2", evidence(0.1))},
        "laptop": {"P1": judge("P1", evidence(4, p=0.5)), "X1": judge("X1", own.measure({}))},
    }
    table = scorecard_table(cards).replace("\n", "")
    head, *rows = re.findall(r"<tr>(.*?)</tr>", table)
    heads = "<th>published: 1 of 2 supported</th><th>laptop: 0 of 1 supported</th>"
    assert head == f"<th>tested claims</th>{heads}"
    assert "<th>published: 0 of 0 hold</th><th>laptop: 1 of 1 hold</th>" in table
    assert len(rows) == len(CLAIMS) + 1
    first, second, *_ = rows
    assert first.startswith(f'<td><a href="growing.html">P1 {CLAIMS["P1"].short}</a></td>')
    assert '<strong class="supported">supported</strong>' in first.split("<td>")[2]
    assert '<strong class="undecided">undecided</strong>' in first.split("<td>")[3]
    assert "A &lt; B." in first and "corrected p = 0.007" in first
    assert '<strong class="not-supported">' in second and second.endswith("<td>no runs</td>")
    (mine,) = [row for row in rows if "X1" in row]
    assert (
        mine.startswith("<td><a>X1 Small &lt; 1</a></td><td>no runs</td>") and "at most 0.5" in mine
    )
    assert table.count("<td>no runs</td>") == 2 * len(CLAIMS) - 4


def test_a_dot_is_the_effect_in_units_of_the_bar():
    """Farther right the larger, between the ends of its interval; the bar is where they say."""

    def drawn(effect):
        table = scorecard_table({"laptop": {"P1": judge("P1", evidence(effect))}})
        (x,) = re.findall(r'circle cx="([^"]+)"', table)
        (low, high) = re.findall(r'class="range" x1="([^"]+)" x2="([^"]+)"', table)[0]
        (bar,) = re.findall(r'class="bar" x1="([\d.]+)"', table)
        return [float(value) for value in (x, low, high, bar)]

    bar = CLAIMS["P1"].bar
    x, low, high, at_bar = drawn(2 * bar)
    assert low < x < high and x == pytest.approx(2 * at_bar)
    assert drawn(bar)[0] == pytest.approx(at_bar) and abs(drawn(1e-9)[0]) < 1e-6
    assert drawn(100 * bar)[0] == drawn(200 * bar)[0] <= 120, "an end, not off the picture"


def test_a_verdict_stands_in_a_box_with_its_numbers_and_its_setting(own, run):
    def measure(arms):
        return evidence(4, control=pandas.Series(0.5, range(8)))

    measure.__module__ = CLAIMS["P1"].measure.__module__
    seen = replace(CLAIMS["P1"], measure=measure)
    CLAIMS._known["P1"] = seen
    box = VerdictBox({"P1": {"one": [run], "two": [run]}}, "laptop")._repr_html_()
    smoke = VerdictBox({"P1": {"one": [run]}}, "smoke")._repr_html_()
    assert '<strong class="supported">P1: supported</strong>' in box
    assert "dsnas · synthetic · 2 cells · 4 steps · 8 seeds" in box
    assert "effect +4 edges [+4, +4], bar 2, corrected p = 0.007, control +0.5" in box
    for part in (CLAIMS["P1"].says, "A &lt; B.", CLAIMS["P1"].because):
        assert part in box
    assert "<b>The paper says.</b>" in box
    assert '<strong class="no-verdict">P1: no verdict</strong>' in smoke
    assert "supported" not in smoke and "corrected p" not in smoke and "<svg" not in smoke
    checked = VerdictBox({"X1": {"one": [run]}}, "laptop")._repr_html_()
    assert '<strong class="holds">X1: holds</strong>' in checked
    assert "<b>We say.</b>" in checked
    assert "at most 0.5 nat, bar 1" in checked and "Why &amp; how." in checked


def test_one_box_has_a_line_with_a_dot_for_each_claim(own, run):
    box = VerdictBox({"X1": {"one": [run]}, "A7": {}}, "laptop")
    shown = box._repr_html_()
    assert shown.count('class="verdict-box"') == 1
    for name in ("X1", "A7"):
        (line,) = re.findall(rf"<p><strong[^>]*>{name}: holds</strong>.*?</p>", shown, re.DOTALL)
        assert line.count("<circle") == line.count("seeds") == 1 and "at most" in line
        assert f"**{name}, the claim.**" in box.text
    assert list(box.evidence) == ["X1", "A7"]


def test_the_box_tells_the_arm_it_is_asked_for(own, run):
    other = Run(run.config.replace(framework="gdas", image_size=4, cells=1), run.history, {})
    arms = {"one": [run], "two": [other]}
    assert "dsnas · synthetic · 1 and 2 cells" in VerdictBox({"X1": arms}, "laptop")._repr_html_()
    assert (
        "gdas · synthetic at 4x4 · 1 cell ·"
        in VerdictBox({"X1": arms}, "laptop", "two")._repr_html_()
    )
