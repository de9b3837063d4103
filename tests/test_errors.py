"""Arguments of a wrong type, and values in messages."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from nascore.errors import ConfigError, checked, shown


def test_checked_leaves_the_call_as_it_is():
    @checked
    def call(edges: int, /, *, rate: float = 1.0, names: Sequence[str] = (), **others: str):
        """Returns its arguments."""
        return edges, rate, names, others

    names = ["a"]
    assert call(np.int64(1), rate=np.float32(2), names=names, more="b")[2] is names
    assert call.__doc__ == "Returns its arguments." and call.__name__ == "call"


@pytest.mark.parametrize(
    "kind, wrong",
    [
        (int, 3.0),
        (float, "0.5"),
        (bool, 1),
        (str | Path | None, 3),
        (Sequence[int], ["a"]),
        (Mapping[str, int], {1: 1}),
        (Callable[[], bool] | None, 3),
    ],
    ids=str,
)
def test_a_wrong_argument_is_one_line_that_names_it(kind, wrong):
    @checked
    def call(value: kind): ...

    with pytest.raises(ConfigError, match=r"call\(\) parameter value=.* violates type hint") as no:
        call(wrong)
    assert "\n" not in str(no.value)


def test_long_values_lose_their_middle():
    assert shown("a") == "'a'"
    assert len(shown("x" * 10_000)) < 220
