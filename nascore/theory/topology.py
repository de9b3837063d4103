"""The shape of a wiring: how wide and how deep it is, and what chance alone would make of it."""

from collections.abc import Callable, Collection
from itertools import chain, combinations

import networkx
import numpy as np

from nascore.engine.space import Edge, SearchSpace, Wiring


def width(wiring: Wiring) -> int:
    """Number of input edges that are kept."""
    return sum(edge in wiring.space.input_edges for edge in wiring.active_edges)


def intermediate_edges(wiring: Wiring) -> int:
    """Number of intermediate edges that are kept."""
    return sum(edge in wiring.space.intermediate_edges for edge in wiring.active_edges)


def depth(wiring: Wiring) -> int:
    """Edges on the longest path from an input node to an output node; 0 if nothing arrives."""
    return max(_paths(wiring), default=0)


def mean_path_length(wiring: Wiring) -> float:
    """Edges on a path from an input node to an output node, mean over all paths; 0 if none is."""
    return float(np.mean(_paths(wiring) or 0.0))


def _paths(wiring: Wiring) -> list[int]:
    """The number of edges on each path from an input node to an output node."""
    graph, outputs = wiring.to_graph(), wiring.space.output_nodes
    paths = (networkx.all_simple_paths(graph, n, outputs) for n in range(wiring.space.inputs))
    return [len(path) - 1 for path in chain.from_iterable(paths)]


def chance(wiring: Wiring, measure: Callable[[Wiring], float]) -> np.ndarray:
    """A measure, such as ``depth``, of every wiring with as many active edges: its exact null."""
    space = wiring.space
    others = combinations(_possible(space), len(wiring.active_edges))
    return np.array([measure(_keeping(space, kept)) for kept in others], dtype=float)


def random_wirings(
    space: SearchSpace, edges: int, family: str, number: int, seed: int = 0
) -> list[Wiring]:
    """Wirings drawn from a family of random graphs, with this number of active edges.

    As in randomly wired networks (Xie, Kirillov, Girshick and He, ICCV 2019) each edge of a graph
    of the family, a key of FAMILIES, is directed from the lower to the higher node. Its parameter
    is the least that gives enough edges; surplus ones are removed, missing ones added at random.
    """
    possible, nodes = _possible(space), space.inputs + space.nodes
    rng = np.random.default_rng(seed)
    wirings = []
    for _ in range(number):
        for parameter in range(1, nodes):
            graph = FAMILIES[family](nodes, parameter, int(rng.integers(2**31)))
            kept = [edge for edge in possible if graph.has_edge(*edge)]
            if len(kept) >= edges:
                break
        others = [edge for edge in possible if edge not in kept]
        chosen = [kept[n] for n in rng.permutation(len(kept))[:edges]]
        chosen += [others[n] for n in rng.permutation(len(others))[: edges - len(chosen)]]
        wirings.append(_keeping(space, chosen))
    return wirings


FAMILIES = {
    "Erdos-Renyi": lambda n, k, seed: networkx.gnm_random_graph(n, n * k // 2, seed),
    "Watts-Strogatz": lambda n, k, seed: networkx.watts_strogatz_graph(
        n, min(k + k % 2, n), 0.75, seed
    ),
    "Barabasi-Albert": networkx.barabasi_albert_graph,
}
"""Random graphs by family, from the number of nodes n, a density k from 1 to n - 1, and a seed."""


def _possible(space: SearchSpace) -> list[Edge]:
    """The edges that may take more than `none`."""
    return [edge for edge in space.edges if set(space.allowed[edge]) != {"none"}]


def _keeping(space: SearchSpace, kept: Collection[Edge]) -> Wiring:
    """A wiring that keeps these edges, each with the first operation that it may take."""
    names = [
        next(name for name in space.allowed[edge] if name != "none") if edge in kept else "none"
        for edge in space.edges
    ]
    return Wiring(space, tuple(names))
