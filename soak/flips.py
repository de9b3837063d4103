"""Flips: one bit of a file is another. Then it is refused, or what it holds is the same."""

import random
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nascore import Run, RunStore
from nascore.errors import RecordError
from nascore.runs import checkpoint as checkpoints
from nascore.runs.algorithm import Search
from nascore.runs.provenance import Maker
from soak.kills import config, finish
from soak.trials import Attack, in_a_child

AT_A_TIME = 500  # flips in one trial
SMALL = config(epochs=1)


@cache
def files() -> tuple[bytes, bytes]:
    """A record and a checkpoint."""

    def work():
        with TemporaryDirectory() as name:
            store = RunStore(name)
            finish(SMALL, store.folder)
            search, path = Search(SMALL), store.checkpoint(SMALL)
            search.epoch()
            search.epoch()
            checkpoints.save(path, search, Maker(search.device))
            return store.path(SMALL).read_bytes(), path.read_bytes()

    return in_a_child(work)


def contents_of_record(path: Path) -> Any:
    """Everything that a record says, as bytes and text."""
    run = Run.load(path)
    arrays = {name: (a.dims, a.values) for name, a in run.history.variables.items()}
    arrays = {name: (dims, str(a.dtype), a.tobytes()) for name, (dims, a) in arrays.items()}
    return arrays, run.config.model_dump(), run.provenance


def contents_of_checkpoint(path: Path) -> Any:
    """Everything that a checkpoint says, as text of every digit."""
    torch.set_printoptions(profile="full", precision=20)
    search = Search(SMALL)
    return repr((checkpoints.load(path, search), search.state_dict()))


def what_comes_of(raw: bytes, places: range | list[int], chance: random.Random, path: Path, read):
    """A line for each flip that is silent, or that ends otherwise than with one line of ours."""
    path.write_bytes(raw)
    expected, failures = read(path), []
    for place in places:
        flipped, bit = bytearray(raw), chance.randrange(8)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            if read(path) != expected:
                failures.append(f"byte {place}, bit {bit}: it is read, and differs")
        except RecordError as error:
            if "\n" in str(error):
                failures.append(f"byte {place}, bit {bit}: {error}")
        except Exception as error:
            failures.append(f"byte {place}, bit {bit}: {error!r}")
    return failures


def flips(places: list[int], raw: bytes, read, number: int, chance: random.Random, folder: Path):
    """Some of the flips at these places, all in one process."""
    some = places[number * AT_A_TIME : (number + 1) * AT_A_TIME]
    path = folder / "file.nc"
    try:
        work = partial(what_comes_of, raw, some, chance, path, read)
        return len(some), in_a_child(work, seconds=600)
    except RuntimeError as error:
        return len(some), [f"bytes {some[0]} to {some[-1]}: {error}"]


def attacks(records: int, checkpoint_flips: int, seed: int) -> list[Attack]:
    """Flips of a record, at every byte if there are so many, and of a checkpoint.

    Arguments:
        records: bytes of the record at most.
        checkpoint_flips: at random bytes.
    """
    record, checkpoint = files()
    chance = random.Random(seed)
    every = sorted(chance.sample(range(len(record)), min(records, len(record))))
    some = [chance.randrange(len(checkpoint)) for _ in range(checkpoint_flips)]
    of_record = partial(flips, every, record, contents_of_record)
    of_checkpoint = partial(flips, some, checkpoint, contents_of_checkpoint)
    return [
        Attack("flips in a record", len(every), of_record),
        Attack("flips in a checkpoint", checkpoint_flips, of_checkpoint),
    ]
