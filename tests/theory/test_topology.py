import numpy as np
import pytest

from nascore import SearchSpace, Wiring
from nascore.theory.topology import chance, depth, path_lengths

MINIMAL, NORMAL = SearchSpace(), SearchSpace(nodes=4)


def joined(space, *edges):
    """The wiring with a skip connection on these edges."""
    return Wiring(space, tuple("skip_connect" if e in edges else "none" for e in space.edges))


@pytest.mark.parametrize(
    "space, edges, expected",
    [
        (MINIMAL, [], 0),
        (MINIMAL, [(0, 2), (1, 3)], 1),
        (MINIMAL, [(0, 2), (2, 3)], 2),
        (MINIMAL, [(2, 3)], 0),  # nothing reaches node 2
        (NORMAL, [(0, 2), (2, 4), (3, 5)], 2),
        (NORMAL, NORMAL.edges, 4),
    ],
)
def test_depth_is_the_longest_path_from_an_input(space, edges, expected):
    assert depth(joined(space, *edges)) == expected


def test_depth_counts_only_paths_that_reach_an_output_node():
    space = SearchSpace(output_nodes=[2])
    assert depth(joined(space, (0, 2), (2, 3))) == 1


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
    wiring = joined(MINIMAL, (0, 2), (2, 3))
    # Of the ten pairs of edges, the two of an edge into node 2 and (2,3) make a path of two.
    assert sorted(chance(wiring, depth)) == [1] * 8 + [2] * 2
    assert len(chance(joined(NORMAL, (0, 2), (2, 3), (3, 4)), depth)) == 364
    removed = SearchSpace(allowed={"(2,3)": ["none"]})
    assert len(chance(joined(removed, (0, 2)), depth)) == 4


def test_chance_keeps_what_cannot_be_removed():
    space = SearchSpace(allowed={"(0,2)": ["skip_connect"]})
    wiring = Wiring(space, ("skip_connect", "none", "max_pool_3x3", "none", "none"))
    kept = chance(wiring, lambda other: len(other.active_edges))
    assert kept.tolist() == [2] * 4  # each of the other four edges beside it
