"""Values of a type, as annotations write it, and values in messages."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from nascore.errors import ConfigError, checked, fits, shown


@pytest.mark.parametrize(
    "kind, right, wrong",
    [
        (int, [3, np.int64(3), 10**400], [True, 3.0, "3", None]),
        (float, [3, 0.5, np.float32(1)], [True, "3", None, 1j]),
        (bool, [True], [1, "yes"]),
        (str | Path | None, ["x", Path("x"), None], [3, b"x"]),
        (Literal["a", 1], ["a", 1], ["b", 2]),
        (Annotated[int, "positive"], [3], ["3"]),
        (Sequence[int], [[], [1], (1, 2), range(3)], [3, {1}, [1, "a"], ["1"]]),
        (tuple[int, int], [(0, 2)], [[0, 2], ("a", "b")]),
        (Mapping[str, int], [{}, {"a": 1}], [[], {1: 1}, {"a": "b"}]),
        (Mapping[str, Mapping[str, Any]], [{"a": {"b": []}}], [{"a": 3}]),
        (Iterable[int], [[1], {1}], [3]),
        (Callable[[], bool] | None, [int, None], [3, "len"]),
        (Any, [3, None], []),
    ],
)
def test_fits(kind, right, wrong):
    assert all(fits(value, kind) for value in right)
    assert not any(fits(value, kind) for value in wrong)


def test_checked_leaves_the_call_as_it_is():
    @checked
    def call(first: int, /, *, second: Sequence[str] = (), **others: Any) -> tuple:
        """Says what it got."""
        return first, second, others

    given = ["a"]
    assert call(1, second=given, third=3)[1] is given
    assert call.__doc__ == "Says what it got." and call.__name__ == "call"
    for wrong, said in [
        (lambda: call(), "missing a required argument: 'first'. Its arguments: first, second"),
        (lambda: call(1, 2), "too many positional arguments"),
        (lambda: call("1"), "call: first='1' is not of type int"),
        (lambda: call(1, second=3), r"second=3 is not of type Sequence\[str\]"),
    ]:
        with pytest.raises(ConfigError, match=said):
            wrong()


def test_long_values_lose_their_middle():
    assert shown("a") == "'a'"
    assert len(shown("x" * 10_000)) < 220
    assert "too many digits" not in shown(10**300)
    assert shown(10**5000).startswith("a value of type int")
