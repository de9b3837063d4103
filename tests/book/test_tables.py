import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook

from nascore import search
from nascore.book.tables import RunTable, scorecard_table, write_execution_record
from nascore.evidence import CLAIMS, Evidence, claim, judge


def test_execution_record_lists_notebooks_versions_and_runs(tiny, tmp_path):
    run = search(tiny, progress=False)
    table, metadata = RunTable({"single-level": [run]})._repr_mimebundle_()
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
    page = write_execution_record(copies, tmp_path / "book").read_text()
    assert page.count(run.config.hash) == 1  # a run that two pages share is one row
    for part in (
        "one page: single-level; other: single-level",
        "smoke",
        "12",
        "2030-01-02 03:04",
        run.provenance["torch"],
        run.provenance["device"],
        "cells=2, channels=4",
    ):
        assert part in page


def test_the_scorecard_links_chapters_and_shows_what_has_no_chapter_or_no_runs(monkeypatch):
    monkeypatch.setattr(CLAIMS, "_known", dict(CLAIMS))
    claim(
        "X1",
        says="Values < 1.",
        short="",
        experiment=None,
        effect="a number",
        test="at most the bar",
        control="none",
        bar=1.0,
        unit="nat",
        tested=False,
    )(lambda arms: Evidence([0], np.array([0.5]), "Seen."))
    cards = {"laptop": {"X1": judge("X1", CLAIMS["X1"].measure({}))}}
    table = scorecard_table(cards)
    assert '<a href="growing.html">P1</a>' in table
    assert "<td>X1</td><td>Values &lt; 1.</td>" in table
    assert "at most 0.5 nat" in table
    assert table.count("<td>no runs</td>") == len(CLAIMS) - 1
