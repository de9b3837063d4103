import pytest

from nascore import SearchSpace, Wiring, search
from nascore.topology import depth, intermediate_edges, over_epochs, width

MINIMAL, NORMAL = SearchSpace.minimal(), SearchSpace.normal()


@pytest.mark.parametrize(
    "space, text, expected",
    [
        (MINIMAL, "", (0, 0, 0)),
        (MINIMAL, "(0,2) skip_connect", (1, 0, 1)),
        (MINIMAL, "(0,2) skip_connect; (1,3) skip_connect", (2, 0, 1)),
        (MINIMAL, "(0,2) skip_connect; (2,3) skip_connect", (1, 1, 2)),
        (MINIMAL, "(2,3) skip_connect", (0, 1, 0)),  # nothing reaches node 2
        (MINIMAL, "(1,3) skip_connect; (2,3) skip_connect", (1, 1, 1)),
        (
            NORMAL,
            "(0,2) skip_connect; (2,3) skip_connect; (3,4) skip_connect; (4,5) skip_connect",
            (1, 3, 4),
        ),
        (NORMAL, "(0,2) skip_connect; (2,4) skip_connect; (3,5) skip_connect", (1, 2, 2)),
    ],
)
def test_width_intermediate_edges_and_depth(space, text, expected):
    wiring = Wiring.from_text(space, text)
    assert (width(wiring), intermediate_edges(wiring), depth(wiring)) == expected


def test_depth_counts_only_paths_that_reach_an_output_node():
    space = SearchSpace(output_nodes=[2])
    wiring = Wiring.from_text(space, "(0,2) skip_connect; (2,3) skip_connect")
    assert depth(wiring) == 1


def test_full_cells():
    for space, expected in ((MINIMAL, (4, 1, 2)), (NORMAL, (8, 6, 4))):
        wiring = Wiring(space, ("skip_connect",) * len(space.edges))
        assert (width(wiring), intermediate_edges(wiring), depth(wiring)) == expected


def test_over_epochs(tiny):
    run = search(tiny, progress=False)
    widths = over_epochs(run, width)
    assert widths.dims == ("epoch",)
    assert widths.values.tolist() == [width(run.wiring_at(epoch)) for epoch in range(3)]
