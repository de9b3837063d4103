from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from book.builder.picture import ARMS, draw_picture, picture
from nascore import RunStore
from nascore.evidence import growth, load_experiment, measured_cost

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def figures():
    yield
    plt.close("all")


def thick(ax):
    """The one thick line of an axes, its median over seeds."""
    (line,) = [line for line in ax.lines if line.get_lw() > 2]
    return line


def test_the_picture_has_each_arm_with_its_edges_its_cost_and_three_wirings():
    arms = load_experiment("picture", "published", RunStore(ROOT / "book" / "records"))
    curves, cells = picture(arms).subfigs
    assert [ax.get_title() for ax in cells.axes] == [
        f"{name}: {np.mean([growth.kept_edges(run)[at(run)] for run in arms[arm]]):.1f}"
        for arm in ARMS
        for name, at in (
            ("start", lambda run: 0),
            ("turn", lambda run: growth.turn(measured_cost(run))),
            ("end", lambda run: -1),
        )
    ]
    above, below = curves.axes[:3], curves.axes[3:]
    assert [ax.get_title() for ax in above] == list(ARMS.values())
    for ax, under, arm in zip(above, below, ARMS, strict=True):
        edges = np.median([growth.kept_edges(run) for run in arms[arm]], axis=0)
        assert np.array_equal(thick(ax).get_ydata(), edges)
        assert thick(ax).get_color() == thick(under).get_color()
    assert len({thick(ax).get_color() for ax in above}) == 3


@pytest.mark.slow
def test_the_picture_is_drawn_from_the_records(tmp_path):
    (tmp_path / "book" / "figures").mkdir(parents=True)
    (tmp_path / "book" / "records").symlink_to(ROOT / "book" / "records")
    drawn = plt.imread(draw_picture(tmp_path))
    assert drawn.shape == plt.imread(ROOT / "book" / "figures" / "picture.png").shape
