"""The shape of a wiring: how wide and how deep it is."""

from collections.abc import Callable

import networkx
import xarray as xr

from nascore.records import Run
from nascore.space import Wiring


def width(wiring: Wiring) -> int:
    """Number of input edges that are kept."""
    return sum(edge in wiring.space.input_edges for edge in wiring.active_edges)


def intermediate_edges(wiring: Wiring) -> int:
    """Number of intermediate edges that are kept."""
    return sum(edge in wiring.space.intermediate_edges for edge in wiring.active_edges)


def depth(wiring: Wiring) -> int:
    """Edges on the longest path from an input node to an output node; 0 if nothing arrives."""
    graph = wiring.to_graph()
    inputs = set(range(wiring.space.inputs))
    reached = inputs.union(*(networkx.descendants(graph, node) for node in inputs))
    outputs = reached.intersection(wiring.space.output_nodes)
    useful = outputs.union(*(networkx.ancestors(graph, node) for node in outputs)) & reached
    return networkx.dag_longest_path_length(graph.subgraph(useful), weight=None, default_weight=1)


def over_epochs(run: Run, measure: Callable[[Wiring], float]) -> xr.DataArray:
    """A measure of the most probable wiring after every epoch, (epoch,)."""
    values = [measure(run.wiring_at(epoch)) for epoch in run.history.epoch.values]
    return xr.DataArray(values, coords={"epoch": run.history.epoch}, dims="epoch")
