import subprocess
import sys

import pytest

from nascore import SearchSpace, Wiring
from nascore.engine.operations import OPERATIONS
from nascore.engine.space import CANDIDATES, edge_name, parse_edge, short_name
from nascore.errors import ConfigError

BUILT_IN = tuple(OPERATIONS)  # before any test registers another one


def mine(channels, norm):
    """An operation of one's own."""


def test_edges_in_the_papers_order():
    assert SearchSpace().edges == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert len(SearchSpace(nodes=4).edges) == 14
    assert SearchSpace(inputs=1).edges == ((0, 1), (0, 2), (1, 2))


def test_every_edge_is_either_input_or_intermediate():
    space = SearchSpace(nodes=4)
    assert set(space.input_edges) | set(space.intermediate_edges) == set(space.edges)
    assert not set(space.input_edges) & set(space.intermediate_edges)
    assert SearchSpace().intermediate_edges == ((2, 3),)


def test_operations_are_those_with_a_module_and_none():
    assert CANDIDATES == ("none", *BUILT_IN)


def test_allowed_keeps_the_order_of_operations_and_leaves_other_edges_free():
    space = SearchSpace(allowed={"(1, 2)": ["sep_conv_5x5", "none"], (0, 3): ["none"]})
    assert space.allowed[1, 2] == ("none", "sep_conv_5x5")
    assert space.choices == (tuple(range(8)), (0, 7), (0,), tuple(range(8)), tuple(range(8)))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"nodes": 0}, "nodes=0"),
        ({"inputs": 3}, "inputs=3"),
        ({"operations": ["sep_conv_3x4"]}, "Did you mean 'sep_conv_3x3'"),
        ({"operations": []}, r"operations=\[\]: give at least one"),
        ({"operations": "none"}, "operations='none' violates"),
        ({"operations": ["none", "none"]}, "only once"),
        ({"operations": ["none", "noen"]}, "Did you mean 'none'.* as 'module:name'"),
        ({"allowed": {"(3,2)": ["none"]}}, r"\(3,2\)'\]: the cell does not have this edge"),
        ({"allowed": {"(0,2)": []}}, "at least one operation"),
        ({"allowed": {"(0,2)": ["noen"]}}, "Did you mean 'none'"),
        ({"allowed": {"edge": ["none"]}}, "'edge' is not an edge"),
        ({"output_nodes": [4]}, r"output_nodes=\[4\].*\[2, 3\]"),
        ({"output_nodes": [1]}, r"output_nodes=\[1\]"),
        ({"output_nodes": []}, "output_nodes"),
    ],
)
def test_impossible_spaces_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        SearchSpace(**fields)


def test_an_operation_from_outside_is_known_by_module_and_name():
    """On an edge its name is enough, and the text of a wiring bears it in full."""
    full = f"{__name__}:mine"
    space = SearchSpace(operations=["none", full], allowed={"(0,2)": ["mine"], "(1,2)": [full]})
    assert space.operations == ("none", full) and short_name(full) == "mine"
    assert space.allowed[0, 2] == space.allowed[1, 2] == (full,)
    wiring = Wiring(space, (full, full, "none", "none", full))
    assert str(wiring).startswith(f"(0,2) {full}; (1,2) {full}; (0,3) none;")


def test_a_space_of_the_papers_operations_needs_no_torch():
    """So that the command line shows its options at once."""
    script = "import sys, nascore; nascore.SearchSpace(); print('torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert result.stdout == "False\n"


def test_edge_text_round_trip():
    assert parse_edge(edge_name((2, 3))) == (2, 3)


def test_wiring_refuses_what_its_space_does_not_have():
    space = SearchSpace(allowed={"(2,3)": ["none"]})
    with pytest.raises(ConfigError, match=r"edge \(2,3\): unknown operation 'skip_connect'"):
        Wiring(space, ("none",) * 4 + ("skip_connect",))
    with pytest.raises(ConfigError, match="4 operations for a cell of 5 edges"):
        Wiring(space, ("none",) * 4)
