"""Checkpoints: the whole state of a search in one file, which is right or refused.

A file holds the SHA-256 of what follows it, and what follows is torch's format.
"""

import hashlib
import io
from pathlib import Path

import torch

from nascore.errors import RecordError
from nascore.folders import whole_file
from nascore.runs.algorithm import Search
from nascore.runs.provenance import Maker

DIGEST = hashlib.sha256().digest_size  # bytes


def save(path: str | Path, search: Search, maker: Maker) -> None:
    """Writes the state of a search and who made it."""
    state = {"address": search.config.address, "parts": maker.parts(), **search.state_dict()}
    content = io.BytesIO()
    torch.save(state, content)
    with whole_file(Path(path)) as part:
        part.write_bytes(hashlib.sha256(content.getbuffer()).digest() + content.getvalue())


def load(path: str | Path, search: Search, threads: int | None = None) -> list[dict]:
    """Takes over the state that ``save`` wrote, and on a CPU its number of threads.

    Such a file, kept after the end of a search, also holds its trained weights.

    Arguments:
        search: of the same config.
        threads: of torch on a CPU, if that matters.

    Returns the provenance of what has been done so far. Raises RecordError, and takes over nothing,
    if the file is damaged, of another config, made by other code, on another kind of device or with
    another number of threads than asked for.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from None
    digest, content = raw[:DIGEST], raw[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise RecordError(f"{path} is not a whole checkpoint. Delete it to start anew.")
    state = torch.load(io.BytesIO(content), map_location=search.device, weights_only=True)
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
    for name in ("code", "torch"):
        if made[name] != here[name]:
            return f"it was made by other code ({name} {made[name]}, here {here[name]})"
    kinds = [part["device"].split()[0] for part in (made, here)]
    if kinds[0] != kinds[1]:
        return f"it was made on another kind of device ({kinds[0]}, here {kinds[1]})"
    if kinds[0] == "cpu" and threads not in (None, made["threads"]):
        return f"it was made with {made['threads']} thread(s), and {threads} is asked for"
    return None
