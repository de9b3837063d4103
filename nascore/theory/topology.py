"""The shape of a wiring: how deep it is, and what chance alone would make of it."""

from collections.abc import Callable
from itertools import combinations

import networkx
import numpy as np

from nascore.engine.space import Wiring


def depth(wiring: Wiring) -> int:
    """Edges on the longest path from an input node to an output node; 0 if nothing arrives."""
    return max(path_lengths(wiring), default=0)


def path_lengths(wiring: Wiring) -> list[int]:
    """The number of edges on each path from an input node to an output node."""
    graph, lengths = networkx.DiGraph(wiring.active_edges), []
    graph.add_nodes_from(range(wiring.space.inputs + wiring.space.nodes))
    for start in range(wiring.space.inputs):
        paths = networkx.all_simple_paths(graph, start, wiring.space.output_nodes)
        lengths += [len(path) - 1 for path in paths]
    return lengths


def chance(wiring: Wiring, measure: Callable[[Wiring], float]) -> np.ndarray:
    """A measure, such as ``depth``, of every wiring with as many active edges: its exact null.

    Each edge that is kept has the first operation but `none` that it may take.
    """
    space = wiring.space
    choices = {edge: [k for k in space.allowed[edge] if k != "none"] for edge in space.edges}
    always = [edge for edge in space.edges if "none" not in space.allowed[edge]]
    maybe = [edge for edge in space.edges if choices[edge] and edge not in always]
    values = []
    for more in combinations(maybe, len(wiring.active_edges) - len(always)):
        names = [choices[e][0] if e in (*always, *more) else "none" for e in space.edges]
        values.append(measure(Wiring(space, tuple(names))))
    return np.array(values, dtype=float)
