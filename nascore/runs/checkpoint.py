"""Checkpoints: the whole state of a search in one sealed file, which is right or refused."""

import io
from pathlib import Path
from pickle import UnpicklingError

import torch

from nascore.errors import DamagedRecord, RecordError
from nascore.folders import check_seal, seal, whole_file
from nascore.runs.algorithm import Search
from nascore.runs.provenance import Maker


def save(path: str | Path, search: Search, maker: Maker) -> None:
    """Writes the state of a search and who made it."""
    state = {"address": search.config.address, "parts": maker.parts(), **search.state_dict()}
    with whole_file(Path(path)) as part:
        torch.save(state, part)
        seal(part)


def load(path: str | Path, search: Search, threads: int | None = None) -> list[dict]:
    """Takes over the state that ``save`` wrote, trained weights and all, and a CPU's threads.

    Returns the provenance of what has been done so far. Raises RecordError, and takes over nothing,
    if the file is damaged, of another config, made by other code or torch, on another kind of
    device, or with another number of threads than asked for.
    """
    try:
        content = io.BytesIO(check_seal(Path(path)))
        state = torch.load(content, map_location=search.device, weights_only=True)
    except DamagedRecord as error:
        raise RecordError(f"{error} Delete it to start anew.") from None
    except UnpicklingError:
        advice = "Name another, or delete it to start anew."
        raise RecordError(f"{path} is no checkpoint. {advice}") from None
    if wrong := _misfit(state, search, threads):
        raise RecordError(f"{path}: {wrong}. Delete it to start anew.")
    if search.device.type == "cpu":
        torch.set_num_threads(state["parts"][-1]["threads"])
    search.load_state_dict(state)
    return state["parts"]


def _misfit(state: dict, search: Search, threads: int | None) -> str | None:
    """Why a search cannot go on from a state, in words; None if it can."""
    if state["address"] != search.config.address:
        return "it belongs to another config"
    made, here = state["parts"][-1], Maker(search.device).parts()[-1]
    for name in ("code", "torch", "device"):
        before, now = (part[name].split()[0] for part in (made, here))  # the device's kind
        if before != now:
            return f"it was made with another {name} ({before}, here {now})"
    if search.device.type == "cpu" and threads not in (None, made["threads"]):
        return f"it was made with {made['threads']} thread(s), and {threads} is asked for"
    return None
