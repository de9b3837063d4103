import itertools

import networkx
import numpy as np
import pytest
import torch

from nascore import SearchSpace
from nascore.engine.random import stream


@pytest.fixture
def page(notebook_cells):
    return notebook_cells("training", "training-04", "training-exact", "training-count")


@pytest.fixture
def training_opportunity(page):
    return page["training_opportunity"]


@pytest.mark.parametrize("space", [SearchSpace(inputs=1), SearchSpace()])
def test_by_hand_for_the_last_cell(space, training_opportunity):
    """Simplified: p, p, p (1 - p(none) on (0,1)). Minimal: (2,3) needs one of two edges."""
    p = np.random.default_rng(0).dirichlet(np.ones(8), len(space.edges))
    expected = p.copy()
    expected[:, 0] = 0
    none = p[:, 0]
    reached = 1 - none[0] if space.inputs == 1 else 1 - none[0] * none[1]
    expected[-1] *= reached
    found = training_opportunity(space, p)
    assert found.shape == (1, *p.shape)
    assert np.allclose(found[0], expected, atol=1e-14)


@pytest.mark.parametrize("outputs", [None, [3], [1, 3]])
def test_against_paths_in_every_possible_graph(outputs, training_opportunity):
    """The sum over all 64 patterns of six edges, with networkx to say who reaches whom."""
    space = SearchSpace(nodes=3, inputs=1, output_nodes=outputs)
    p = np.random.default_rng(0).dirichlet(np.ones(8), len(space.edges))
    p[:, 0] = 0.6
    p[:, 1:] *= 0.4 / p[:, 1:].sum(axis=1, keepdims=True)
    expected = np.zeros_like(p)
    for pattern in itertools.product([False, True], repeat=len(space.edges)):
        graph = networkx.DiGraph()
        graph.add_nodes_from(range(4))
        graph.add_edges_from(e for e, on in zip(space.edges, pattern, strict=True) if on)
        weight = np.where(pattern, 0.4, 0.6).prod()
        for e, (i, j) in enumerate(space.edges):
            heard = any(networkx.has_path(graph, j, k) for k in space.output_nodes)
            if pattern[e] and networkx.has_path(graph, 0, i) and heard:
                expected[e, 1:] += weight * p[e, 1:] / 0.4
    assert np.allclose(training_opportunity(space, p)[0], expected, atol=1e-14)


def test_earlier_cells_learn_less_often(training_opportunity):
    """One input and two cells: the first is read only if an edge leaves the input of the second."""
    space = SearchSpace(inputs=1)
    p = np.full((3, 8), 1 / 8)
    first, last = training_opportunity(space, p, cells=2)
    # every edge of the last cell needs an active edge out of node 0, and so finds the first read
    assert np.allclose(first, last, atol=1e-14)
    # with two inputs the last cell may rest on the older one, which skips the cell before it
    first, last = training_opportunity(SearchSpace(), np.full((5, 8), 1 / 8), cells=2)
    older = [0, 2]  # edges (0,2) and (0,3) can be active without any from input node 1
    assert (first[older, 1:] < last[older, 1:]).all()
    assert np.allclose(first[[1, 3]], last[[1, 3]], atol=1e-14)


RESTRICTED = SearchSpace(output_nodes=[3], allowed={"(0,3)": ["none"], "(1,2)": ["sep_conv_5x5"]})


@pytest.mark.parametrize(
    "space, cells",
    [(SearchSpace(inputs=1), 3), (SearchSpace(), 3), (RESTRICTED, 1)],
    ids=["simplified", "minimal", "restricted"],
)
def test_closed_form_against_counts(space, cells, supernet, batch, alpha, page):
    """200 sampled masks: every count within 5 standard errors, and their mean square near 1.

    With up to 120 counts, 5 is beyond chance (1e-4 in all). Counts in the same masks depend on
    each other, so the mean square is only held below 2.
    """
    net, a, draws = supernet(space, cells=cells, channels=2), alpha(space), 200
    a = a.detach() / 2
    for e, choices in enumerate(space.choices):
        a[e, [k for k in range(8) if k not in choices]] = -torch.inf
    exact = page["training_opportunity"](space, a.softmax(dim=1).numpy(), cells)
    counts = page["count_trained"](net, a, *batch, draws, stream(0, "mask")).numpy()
    certain = (exact == 0) | (exact > 1 - 1e-12)
    assert np.allclose(counts[certain], draws * exact[certain])
    error = np.sqrt(exact * (1 - exact) / draws)[~certain]
    deviation = (counts / draws - exact)[~certain] / error
    assert np.abs(deviation).max() < 5
    assert (deviation**2).mean() < 2
