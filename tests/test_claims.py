"""Each criterion on made histories that have the effect, and on ones that have not."""

import numpy as np

from nascore import Run, SearchConfig, claims
from nascore.records import History
from nascore.space import edge_name


def made_run(none, level="single", output_cost=0.0):
    """A run whose p(none) follows ``none``, (epochs + 1, edges), with the rest on one operation."""
    none = np.asarray(none, dtype=float)
    config = SearchConfig(
        dataset="synthetic", train_examples=96, search_examples=96, level=level, cells=1,
        epochs=len(none) - 1,
    )  # fmt: skip
    history = History(config)
    history.arrays["probability"][...] = 0
    history.arrays["probability"][:, :, 0] = none
    history.arrays["probability"][:, :, 4] = 1 - none
    history.arrays["examples"][...] = 10
    history.arrays["loss"][...] = 1 + output_cost
    history.arrays["entropy"][...] = 1
    return Run(config, history.to_xarray(), {})


def path(*active):
    """p(none) of five edges, of which the first n are active, for each n."""
    return [[0.1] * n + [0.9] * (5 - n) for n in active]


def test_growing():
    runs = [made_run(path(*edges)) for edges in [(5, 2, 4), (5, 5, 5), (5, 3, 2), (3, 5, 5)]]
    seen = claims.growing(runs)
    assert seen.seen.tolist() == [True, False, False, False]
    assert seen.values["fewest edges"].tolist() == [2, 5, 2, 3]
    # An edge that flips while p(none) only falls in the mean is no growth.
    flip = made_run([[0.6] * 5, [0.4] * 4 + [0.6], [0.3] * 5])
    assert not claims.growing([flip]).seen.any()
    assert "seen in 1 of 4 seeds" in str(seen)
    table = seen.table()
    assert table.shape == (8, 4)
    assert table.loc["fewest edges"].tolist() == ["2", "5", "2", "3"]
    assert table.loc["seen"].tolist() == ["yes", "no", "no", "no"]
    assert "not seen in any of 3 seeds" in str(claims.growing(runs[1:]))


def test_width_preference():
    space = SearchConfig(dataset="synthetic").space
    assert edge_name(space.edges[4]) == "(2,3)"
    wide = made_run([[0.1] * 5, [0.1, 0.1, 0.1, 0.1, 0.8]])
    deep = made_run([[0.1] * 5, [0.8, 0.1, 0.1, 0.8, 0.1]])
    seen = claims.width_preference([wide, deep])
    assert seen.seen.tolist() == [True, False]
    assert np.allclose(seen.values["difference"], [0.7, 0.1 - 0.45])
    assert seen.values["depth at the end"].tolist() == [1, 2]


def test_bilevel_failure():
    lost, kept = made_run(path(5, 1), "bi", 0.3), made_run(path(5, 5))
    half = made_run(path(5, 2), "bi")
    assert claims.bilevel_failure([lost], [kept]).seen.tolist() == [True]
    assert claims.bilevel_failure([half], [kept]).seen.tolist() == [False]
    assert claims.bilevel_failure([lost], [made_run(path(5, 2))]).seen.tolist() == [False]
    values = claims.bilevel_failure([lost], [kept]).values
    assert np.allclose(values["L - H on the search set, bi-level"], 0.3)
