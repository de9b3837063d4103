import numpy as np
import pytest

from nascore import SearchSpace, Wiring
from nascore.engine.space import edge_name
from nascore.theory.topology import chance, depth, path_lengths

MINIMAL, NORMAL = SearchSpace(), SearchSpace(nodes=4)


@pytest.mark.parametrize(
    "space, text, expected",
    [
        (MINIMAL, "", 0),
        (MINIMAL, "(0,2) skip_connect; (1,3) skip_connect", 1),
        (MINIMAL, "(0,2) skip_connect; (2,3) skip_connect", 2),
        (MINIMAL, "(2,3) skip_connect", 0),  # nothing reaches node 2
        (NORMAL, "(0,2) skip_connect; (2,4) skip_connect; (3,5) skip_connect", 2),
        (NORMAL, "; ".join(f"{edge_name(edge)} skip_connect" for edge in NORMAL.edges), 4),
    ],
)
def test_depth_is_the_longest_path_from_an_input(space, text, expected):
    assert depth(Wiring.from_text(space, text)) == expected


def test_depth_counts_only_paths_that_reach_an_output_node():
    space = SearchSpace(output_nodes=[2])
    wiring = Wiring.from_text(space, "(0,2) skip_connect; (2,3) skip_connect")
    assert depth(wiring) == 1


def test_paths_against_powers_of_the_adjacency_matrix():
    rng = np.random.default_rng(0)
    for _ in range(40):
        kept = rng.random(14) < 0.5
        wiring = Wiring(NORMAL, tuple("skip_connect" if keep else "none" for keep in kept))
        adjacency = np.zeros((6, 6))
        for edge in wiring.active_edges:
            adjacency[edge] = 1
        powers = [np.linalg.matrix_power(adjacency, length) for length in range(1, 6)]
        numbers = [power[np.ix_((0, 1), NORMAL.output_nodes)].sum() for power in powers]
        lengths = np.repeat(range(1, 6), np.array(numbers, int))
        assert sorted(path_lengths(wiring)) == lengths.tolist()
        assert depth(wiring) == max(lengths, default=0)


def test_chance_is_every_wiring_with_as_many_edges():
    wiring = Wiring.from_text(MINIMAL, "(0,2) skip_connect; (2,3) skip_connect")
    # Of the ten pairs of edges, the two of an edge into node 2 and (2,3) make a path of two.
    assert sorted(chance(wiring, depth)) == [1] * 8 + [2] * 2
    three = Wiring.from_text(NORMAL, "(0,2) skip_connect; (2,3) skip_connect; (3,4) skip_connect")
    assert len(chance(three, depth)) == 364
    removed = SearchSpace(allowed={"(2,3)": ["none"]})
    assert len(chance(Wiring.from_text(removed, "(0,2) skip_connect; (0,3) none"), depth)) == 4


def test_chance_keeps_what_cannot_be_removed():
    space = SearchSpace(allowed={"(0,2)": ["skip_connect"]})
    wiring = Wiring(space, ("skip_connect", "none", "max_pool_3x3", "none", "none"))
    kept = chance(wiring, lambda other: len(other.active_edges))
    assert kept.tolist() == [2] * 4  # each of the other four edges beside it
