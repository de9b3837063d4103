"""Checkpoints: the whole state of a search in one file, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nascore.errors import RecordError
from nascore.folders import whole_file


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes a state: tensors, numbers and text, in dictionaries and lists."""
    with whole_file(Path(path)) as part:
        torch.save(state, part)


def load(path: str | Path, device: torch.device, address: str) -> dict[str, Any]:
    """Reads the state that ``save`` wrote.

    Arguments:
        device: where its tensors are put.
        address: of the config that the state must belong to.

    Raises RecordError if the file is damaged or belongs to another search.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        message = f"{path} is not a whole checkpoint ({error}). Delete it to start anew."
        raise RecordError(message) from None
    if state["address"] != address:
        raise RecordError(f"{path} belongs to another config. Delete it to start anew.")
    return state


def set_streams(streams: Mapping[str, torch.Generator], saved: Mapping[str, torch.Tensor]) -> None:
    """Sets random streams to saved states. Raises RecordError if they are of another device."""
    try:
        for name, state in saved.items():
            streams[name].set_state(state.cpu())
    except RuntimeError as error:
        device = next(iter(streams.values())).device
        raise RecordError(
            f"the checkpoint was made on another kind of device than {device} ({error}). "
            "Go on there, or delete it to start anew."
        ) from None
