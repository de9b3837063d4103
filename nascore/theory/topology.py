"""The shape of a wiring: how wide and how deep it is, and what chance alone would make of it."""

from collections.abc import Callable, Collection, Iterator
from itertools import combinations

import networkx
import numpy as np
import xarray as xr

from nascore.engine.space import Edge, SearchSpace, Wiring
from nascore.errors import ConfigError, unknown
from nascore.runs.run import Run


def width(wiring: Wiring) -> int:
    """Number of input edges that are kept."""
    return sum(edge in wiring.space.input_edges for edge in wiring.active_edges)


def intermediate_edges(wiring: Wiring) -> int:
    """Number of intermediate edges that are kept."""
    return sum(edge in wiring.space.intermediate_edges for edge in wiring.active_edges)


def depth(wiring: Wiring) -> int:
    """Edges on the longest path from an input node to an output node; 0 if nothing arrives."""
    graph = _useful(wiring)
    return networkx.dag_longest_path_length(graph, weight=None, default_weight=1)


def mean_path_length(wiring: Wiring) -> float:
    """Edges on a path from an input node to an output node, mean over all paths; 0 if none is."""
    graph = _useful(wiring)
    paths = {node: np.zeros(len(graph) + 1) for node in graph}  # number of paths by their length
    total = np.zeros(len(graph) + 1)
    for node in networkx.topological_sort(graph):
        if node < wiring.space.inputs:
            paths[node][0] = 1
        for before in graph.predecessors(node):
            paths[node][1:] += paths[before][:-1]
        if node in wiring.space.output_nodes:
            total += paths[node]
    return float(total @ np.arange(len(total)) / total.sum()) if total.sum() else 0.0


def distance(one: Wiring, other: Wiring) -> int:
    """Number of edges that only one of two wirings keeps."""
    return len(set(one.active_edges) ^ set(other.active_edges))


def _useful(wiring: Wiring) -> networkx.DiGraph:
    """The active edges on some path from an input node to an output node."""
    graph = wiring.to_graph()
    inputs = set(range(wiring.space.inputs))
    reached = inputs.union(*(networkx.descendants(graph, node) for node in inputs))
    outputs = reached.intersection(wiring.space.output_nodes)
    useful = outputs.union(*(networkx.ancestors(graph, node) for node in outputs)) & reached
    return graph.subgraph(useful)


def each_epoch(run: Run, measure: Callable[[Wiring], float]) -> xr.DataArray:
    """A measure of the most probable wiring after every epoch, (epoch,)."""
    values = [measure(run.wiring_at(epoch)) for epoch in run.history.epoch.values]
    return xr.DataArray(values, coords={"epoch": run.history.epoch}, dims="epoch")


def all_wirings(space: SearchSpace, edges: int) -> Iterator[Wiring]:
    """Every wiring of a space with this number of active edges, whatever their operation.

    A uniform draw from them is an Erdos-Renyi graph with a fixed number of edges, among the edges
    that may be active.
    """
    return (_keeping(space, kept) for kept in combinations(_possible(space), edges))


def chance(wiring: Wiring, measure: Callable[[Wiring], float]) -> np.ndarray:
    """A measure of every wiring with as many active edges: its exact null distribution.

    Arguments:
        measure: such as ``depth``.
    """
    wirings = all_wirings(wiring.space, len(wiring.active_edges))
    return np.array([measure(other) for other in wirings], dtype=float)


def random_wirings(
    space: SearchSpace, edges: int, family: str, number: int, seed: int = 0
) -> list[Wiring]:
    """Wirings drawn from a family of random graphs, with this number of active edges.

    As in randomly wired networks (Xie, Kirillov, Girshick and He, ICCV 2019) an undirected graph
    of the family becomes a DAG by directing each edge from the lower to the higher node. The
    parameter of the family is the least that gives enough edges of the cell. What is too many is
    then removed at random, and what the family cannot give is added at random.

    Arguments:
        family: a key of FAMILIES.
        number: how many to draw.

    Raises ConfigError for another family, or more edges than the cell has.
    """
    if family not in FAMILIES:
        raise ConfigError(unknown("family", family, FAMILIES))
    possible = _possible(space)
    if edges > len(possible):
        raise ConfigError(f"edges={edges}: at most {len(possible)} of this cell may be active.")
    nodes, rng = space.inputs + space.nodes, np.random.default_rng(seed)
    wirings = []
    for _ in range(number):
        kept = []
        for parameter in range(1, nodes):
            graph = FAMILIES[family](nodes, parameter, int(rng.integers(2**31)))
            drawn = {(min(edge), max(edge)) for edge in graph.edges}
            kept = [edge for edge in possible if edge in drawn]
            if len(kept) >= edges:
                break
        others = [edge for edge in possible if edge not in kept]
        chosen = [kept[n] for n in rng.permutation(len(kept))[:edges]]
        chosen += [others[n] for n in rng.permutation(len(others))[: edges - len(chosen)]]
        wirings.append(_keeping(space, chosen))
    return wirings


FAMILIES = {
    "Erdos-Renyi": lambda nodes, parameter, seed: networkx.gnm_random_graph(
        nodes, nodes * parameter // 2, seed
    ),
    "Watts-Strogatz": lambda nodes, parameter, seed: networkx.watts_strogatz_graph(
        nodes, min(parameter + parameter % 2, nodes), 0.75, seed
    ),
    "Barabasi-Albert": lambda nodes, parameter, seed: networkx.barabasi_albert_graph(
        nodes, parameter, seed
    ),
}
"""Random graphs by family, from the number of nodes, a density from 1 to nodes - 1, and a seed."""


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
