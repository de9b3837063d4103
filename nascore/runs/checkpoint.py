"""Checkpoints: the whole state of a search in one file, which is right or refused.

A file holds the SHA-256 of what follows it, and what follows is torch's format.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nascore.errors import RecordError
from nascore.folders import whole_file

DIGEST = hashlib.sha256().digest_size  # bytes


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Writes a state: tensors, numbers and text, in dictionaries and lists."""
    content = io.BytesIO()
    torch.save(state, content)
    with whole_file(Path(path)) as part:
        part.write_bytes(hashlib.sha256(content.getbuffer()).digest() + content.getvalue())


def load(path: str | Path, device: torch.device) -> dict[str, Any]:
    """Reads the state that ``save`` wrote, with its tensors on a device.

    Raises RecordError if the file cannot be read or is damaged.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    digest, content = raw[:DIGEST], raw[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise RecordError(f"{path} is not a whole checkpoint. Delete it to start anew.")
    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    if not isinstance(state, dict):
        raise RecordError(f"{path} is not a checkpoint. Delete it to start anew.")
    return state


def misfit(expected: Any, found: Any, name: str = "state") -> str | None:
    """Where a state is not of the form of another, in words; None if nowhere.

    Both have the same keys; tensors have the same type and shape, and other values the same type.
    """
    if type(expected) is not type(found):
        return f"{name} is a {type(found).__name__}, not a {type(expected).__name__}"
    if isinstance(expected, Tensor):
        forms = [f"{tuple(t.shape)} of {t.dtype}" for t in (found, expected)]
        return None if forms[0] == forms[1] else f"{name} is {forms[0]}, not {forms[1]}"
    if isinstance(expected, list):
        expected, found = dict(enumerate(expected)), dict(enumerate(found))
    if not isinstance(expected, dict):
        return None
    for key in expected.keys() ^ found.keys():
        return f"{name}.{key} is {'missing' if key in expected else 'not expected'}"
    parts = (misfit(expected[key], found[key], f"{name}.{key}") for key in expected)
    return next(filter(None, parts), None)


def not_finite(state: Any, name: str = "state") -> str | None:
    """The first tensor of a state that holds a NaN or an infinity, in words; None if none does."""
    if isinstance(state, Tensor):
        return None if state.isfinite().all() else f"{name} is not finite"
    parts = state.items() if isinstance(state, dict) else ()
    return next(filter(None, (not_finite(part, f"{name}.{key}") for key, part in parts)), None)


def misfit_of_optimiser(optimiser: Optimizer, saved: Any, steps: int) -> str | None:
    """Why a saved state is not that of an optimiser after so many steps, in words, or None."""
    name, own = type(optimiser).__name__, optimiser.state_dict()
    wrong = misfit(own["param_groups"], saved.get("param_groups"), f"{name}.param_groups")
    parameters = dict(enumerate(p for group in optimiser.param_groups for p in group["params"]))
    for n, values in saved.get("state", {}).items():
        for key, value in values.items():
            shape = () if key == "step" else parameters[n].shape if n in parameters else None
            if value is not None and value.shape != shape:
                wrong = wrong or f"{name}.{key} is {tuple(value.shape)}, not {shape}"
            if key == "step" and value != steps:
                wrong = wrong or f"{name} has done {value:.0f} steps, not {steps}"
    if steps > 0 and not saved.get("state"):
        wrong = wrong or f"{name} has no state after {steps} steps"
    return wrong or not_finite(saved, name)
