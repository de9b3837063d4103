"""A progress bar that suits where it is shown."""

import sys
from io import TextIOBase
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30


class _Lines(TextIOBase):
    """What a bar writes, as lines of a log file: without carriage returns."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(f"{text.strip()}\n")


def open_bar(**arguments: Any) -> tqdm:
    """A bar on stderr: redrawn in a terminal, gone after its end in a notebook, lines elsewhere."""
    arguments["mininterval"] = 0.5
    notebook = "ipykernel" in type(sys.stderr).__module__
    if not notebook and not sys.stderr.isatty():
        arguments |= {"file": _Lines(), "mininterval": SECONDS_BETWEEN_LINES, "ncols": 120}
    return tqdm(leave=not notebook, **arguments)
