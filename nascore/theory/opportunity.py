"""Training opportunity: how probable it is that an operation receives a gradient in a step.

In a discrete framework an operation learns only if it is sampled, if its input is reached, and if
what it computes arrives at the output: a disadvantage of intermediate edges before any cost.

Source: the paper's training-opportunity bias, for the simplified cell; the general form is ours.
"""

from itertools import product

import numpy as np

from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError


def training_opportunity(space: SearchSpace, probability: np.ndarray, cells: int = 1) -> np.ndarray:
    """The exact probability that each operation receives a gradient, (cells, edges, operations).

    Edges are drawn independently, one operation each, the same for all cells. In the last cell,

        P(i, j, k) = p_k(i, j) P(node i is reached) P(node j leads on to the output),

    where the two events rest on different edges. An earlier cell must also be read by a later one
    that leads on. The probabilities p, (edges, operations), are summed over all patterns of active
    edges. `none` has 0: there is nothing to train.

    Raises ConfigError for a cell with more than 20 edges, which have a million patterns.
    """
    if len(space.edges) > 20:
        raise ConfigError(f"{len(space.edges)} edges: all patterns are listed only up to 20.")
    probability = np.where(np.array(space.operations) == "none", 0.0, probability)
    some = probability.sum(axis=1)  # P(the edge is active), (edges,)
    active = np.array(list(product([False, True], repeat=len(space.edges))))  # (patterns, edges)
    weight = np.where(active, some, 1 - some).prod(axis=1)  # (patterns,)
    nodes, edges = np.arange(space.inputs + space.nodes), list(enumerate(space.edges))
    reached = np.tile(nodes < space.inputs, (len(active), 1))  # (patterns, nodes), from an input
    for e, (i, j) in edges:
        reached[:, j] |= active[:, e] & reached[:, i]
    leads = np.tile(np.isin(nodes, space.output_nodes), (len(active), 1))  # the same, to the output
    for e, (i, j) in reversed(edges):
        leads[:, i] |= active[:, e] & leads[:, j]
    # A gradient arrives at a cell's output by the next cell, whose newest input it is, and with two
    # input nodes also by the cell after that, whose older input it is.
    alive = np.zeros((cells + space.inputs, len(active)), bool)  # (cells and none behind, patterns)
    alive[cells - 1] = True
    for c in reversed(range(cells - 1)):
        for node in range(space.inputs):
            alive[c] |= leads[:, node] & alive[c + space.inputs - node]
    result = np.zeros((cells, *probability.shape))
    for e, (i, j) in edges:
        trained = weight * (active[:, e] & reached[:, i] & leads[:, j])  # (patterns,)
        if some[e] > 0:
            result[:, e] = np.outer(alive[:cells] @ trained, probability[e] / some[e])
    return result
