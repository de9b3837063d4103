"""The search space: a cell's nodes and edges, the operations each edge may take, and a wiring.

Nodes are numbered as in the paper. Input nodes come first (0 and 1, or only 0 in the simplified
cell), intermediate nodes follow. An edge (i, j) joins an earlier node i to an intermediate node j.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nascore.errors import ConfigError, checked, shown, unknown
from nascore.plugins import Registry

Edge = tuple[int, int]
Names = tuple[str, ...] | list[str]

CANDIDATES = (
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_5x5",
)
"""The candidate operations of the paper, in its order."""

MOST_NODES = 64  # intermediate ones; two thousand edges
OPERATIONS = Registry("operation")  # all that compute something; operations.py fills it


def operation_name(name: str) -> str:
    """The full name of a known operation, else ConfigError; ``"module:name"`` may come later."""
    if name in CANDIDATES or ":" in str(name):
        return name
    if name not in OPERATIONS:
        hint = "Or give one of your own as 'module:name'."
        raise ConfigError(f"{unknown('operation', name, CANDIDATES)} {hint}")
    return OPERATIONS.name_of(name)


def short_name(operation: str) -> str:
    """An operation's name for people: without the module that it comes from."""
    return operation.rpartition(":")[2]


def edge_name(edge: Edge) -> str:
    """The text form of an edge, as in records and figures: ``"(0,2)"``."""
    return f"({edge[0]},{edge[1]})"


def parse_edge(text: str | Edge) -> Edge:
    """An edge from its text form. Raises ConfigError if the text is not of the form ``(i,j)``."""
    match = re.fullmatch(r"\s*\(?\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)?\s*", str(text))
    if match is None:
        raise ConfigError(f"{shown(text)} is not an edge. Write (0,2): from node 0 to node 2.")
    return int(match[1]), int(match[2])


@checked
@dataclass(frozen=True)
class SearchSpace:
    """A cell whose wiring is searched.

    The paper's minimal cell is the default, with five edges; ``nodes=4`` is its normal one, with
    fourteen, and ``inputs=1`` its simplified one, with three, where training opportunity shows.

    ``allowed`` has the operations that some edges may take: one fixes the edge, ``["none"]``
    removes it. The other edges may take every operation. One of your own is ``"module:name"``, see
    operations.py.

    Raises ConfigError, naming what was given and what is allowed.

    >>> space = SearchSpace(nodes=1, allowed={"(0,2)": ["none", "skip_connect"], "(1,2)": ["none"]})
    >>> space.edges, space.choices
    (((0, 2), (1, 2)), ((0, 1), (0,)))
    """

    nodes: int = 2  # intermediate ones, N
    inputs: int = 2  # 1 in the simplified cell
    operations: Names = CANDIDATES  # in the order in which every array lists them
    allowed: Mapping[str | Edge, Names] = field(default_factory=dict, hash=False)  # by edge
    output_nodes: Sequence[int] | None = None  # joined to the cell's output; all intermediate ones

    def __post_init__(self):
        if not (1 <= self.nodes <= MOST_NODES and self.inputs in (1, 2)):
            numbers = f"nodes={shown(self.nodes)}, inputs={shown(self.inputs)}"
            raise ConfigError(f"{numbers}: give 1 to {MOST_NODES} nodes, and 1 or 2 input nodes.")
        operations = tuple(map(operation_name, self.operations))
        if not operations or len(set(map(short_name, operations))) < len(operations):
            raise ConfigError(f"operations={list(operations)}: give at least one, each only once.")
        inner, outputs = list(self.intermediate_nodes), self.output_nodes
        if outputs is not None and not (outputs and set(outputs) <= set(inner)):
            raise ConfigError(f"output_nodes={outputs}: choose among the inner nodes {inner}.")
        object.__setattr__(self, "operations", operations)
        object.__setattr__(self, "allowed", self._allowed())
        object.__setattr__(self, "output_nodes", tuple(sorted(set(outputs or inner))))

    def _allowed(self) -> dict[Edge, tuple[str, ...]]:
        allowed = dict.fromkeys(self.edges, self.operations)
        for key, names in self.allowed.items():
            edge = parse_edge(key)
            entry = f"allowed[{edge_name(edge)!r}]"
            if edge not in allowed:
                edges = " ".join(map(edge_name, self.edges))
                raise ConfigError(f"{entry}: the cell does not have this edge. Its edges: {edges}.")
            if not names:
                raise ConfigError(f"{entry}: give at least one operation, ['none'] to remove it.")
            for name in {*names} - {*self.operations} - {*map(short_name, self.operations)}:
                raise ConfigError(f"{entry}: {unknown('operation', name, self.operations)}")
            allowed[edge] = tuple(
                name for name in self.operations if name in names or short_name(name) in names
            )
        return allowed

    @property
    def intermediate_nodes(self) -> range:
        return range(self.inputs, self.inputs + self.nodes)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, by target and then by source: (0,2) (1,2) (0,3) (1,3) (2,3) ..."""
        return tuple((i, j) for j in self.intermediate_nodes for i in range(j))

    @property
    def input_edges(self) -> tuple[Edge, ...]:
        """The edges that start at an input node. How many are kept is the cell's width."""
        return tuple(edge for edge in self.edges if edge[0] < self.inputs)

    @property
    def intermediate_edges(self) -> tuple[Edge, ...]:
        """The edges that join two intermediate nodes. They are what makes a cell deep."""
        return tuple(edge for edge in self.edges if edge[0] >= self.inputs)

    @cached_property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """For every edge, the indices of the operations that it may take."""
        return tuple(
            tuple(k for k, name in enumerate(self.operations) if name in self.allowed[edge])
            for edge in self.edges
        )


@checked
@dataclass(frozen=True)
class Wiring:
    """One operation for each of ``space.edges``. An edge is active if its one is not `none`."""

    space: SearchSpace
    operations: tuple[str, ...]

    def __post_init__(self):
        number, edges = len(self.operations), self.space.edges
        if number != len(edges):
            raise ConfigError(f"{number} operations for a cell of {len(edges)} edges.")
        for edge, name in zip(edges, self.operations, strict=True):
            if name not in self.space.allowed[edge]:
                message = unknown("operation", name, self.space.allowed[edge])
                raise ConfigError(f"edge {edge_name(edge)}: {message}")

    def __getitem__(self, edge: Edge) -> str:
        return self.operations[self.space.edges.index(edge)]

    @property
    def active_edges(self) -> tuple[Edge, ...]:
        return tuple(edge for edge in self.space.edges if self[edge] != "none")

    def __str__(self) -> str:
        return "; ".join(f"{edge_name(edge)} {self[edge]}" for edge in self.space.edges)
