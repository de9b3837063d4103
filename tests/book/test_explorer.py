import json
import re
from pathlib import Path

import numpy as np
import pytest

from nascore import Run, SearchConfig, search
from nascore.book.explorer import COLOURS, EXPLORER, WiringExplorer
from nascore.evidence import growth, measured_cost
from nascore.evidence.analyses import mean_over_operations

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def long():
    """A search of 60 epochs, from which the figures, too, take means over epochs."""
    data = {"dataset": "synthetic", "train_examples": 32, "valid_examples": 32, "augment": False}
    size = {"cells": 2, "channels": 4, "batch_size": 32, "arch_lr": 0.05}
    return search(SearchConfig(**data, **size, epochs=60), progress=False)


def decoded(values, scale):
    """As the script reads them."""
    return np.array([np.nan if value is None else value / scale for value in values])


def test_an_explorer_has_what_the_run_has(long):
    (arm,) = WiringExplorer({"one level": [long]}).data
    (course,) = arm["runs"]
    config = long.config
    assert arm["name"] == "one level" and course["seed"] == config.seed
    assert arm["edges"] == config.space.edges and arm["outputs"] == config.space.output_nodes
    assert arm["operations"][:3] == ["none", "skip connect", "max pool 3x3"]
    assert arm["steps"] == 1
    assert course["active"] == growth.kept_edges(long).tolist()
    for epoch in (0, 1, 30, 60):
        names = [config.space.operations[edge[epoch]] for edge in course["operation"]]
        assert tuple(names) == long.wiring_at(epoch).operations
    half = 0.5001  # of the last digit that is kept
    for e, edge in enumerate(("(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)")):
        best = long.history.probability.sel(edge=edge).max("operation").values
        assert decoded(course["percent"][e], 100) == pytest.approx(best, abs=half / 100)
        none = long.none_probability.sel(edge=edge).values
        assert decoded(course["none"][e], 1000) == pytest.approx(none, abs=half / 1000)
        cost = mean_over_operations(long.history, edge).to_series()
        cost = cost.rolling(3, center=True, min_periods=1).mean()  # a twentieth of the epochs
        near = pytest.approx(cost.values, abs=half / 10_000, nan_ok=True)
        assert decoded(course["cost"][e], 10_000) == near
    assert decoded(course["output_cost"], 1000) == pytest.approx(
        measured_cost(long), abs=half / 1000
    )


def test_what_is_no_number_is_null(run):
    history = run.history.copy(deep=True)
    for name in ("alpha", "probability", "loss"):
        history[name][1:] = np.nan
    explorer = WiringExplorer({"two levels": [Run(run.config, history, {})]})
    shown, metadata = explorer._repr_mimebundle_()
    assert f'class="{EXPLORER}"' in shown["text/html"]
    text = json.dumps(metadata[EXPLORER], allow_nan=False)
    (course,) = json.loads(text)[0]["runs"]
    assert course["percent"][0][0] is not None and course["percent"][0][1:] == [None, None]
    assert course["output_cost"][1:] == course["active"][1:] == [None, None]


def test_an_explorer_has_no_colours_but_those_of_the_figures():
    """Its script and its style sheet take them from the page's data, or from the theme."""
    for path in (ROOT / "book" / "_explorer").iterdir():
        colours = set(re.findall(r"#[0-9a-f]{3,8}\b", path.read_text(encoding="utf-8")))
        assert colours <= {"#fff"}, path.name  # of letters on a node
    script = (ROOT / "book" / "_explorer" / "explorer.js").read_text(encoding="utf-8")
    for name in COLOURS:
        assert f"colours.{name}" in script or f'"{name}"' in script
