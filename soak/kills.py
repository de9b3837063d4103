"""Kills: a search that is killed, again and again, gives the bits of one that never was."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from nascore import Run, RunStore, SearchConfig, search, sweep
from nascore.errors import Interrupted
from nascore.runs import checkpoint as checkpoints
from nascore.runs import loop, run
from nascore.runs.algorithm import Search
from soak.trials import FORK, Attack, in_a_child

FRAMEWORKS = ("dsnas", "darts", "reinforce", "pcdarts")
KILLS_OF_A_SEARCH = 10  # at most; then it goes on to its end
PLACED = 9  # exit code of a search that killed itself
STOPPED = 3  # exit code of a search that was interrupted


def config(framework: str = "dsnas", **changes) -> SearchConfig:
    """A search of a second, on two levels whose batches do not end together, and augmented."""
    return SearchConfig(
        framework=framework,
        level="bi",
        dataset="synthetic",
        train_examples=96,
        search_examples=64,
        valid_examples=32,
        cells=1,
        channels=4,
        batch_size=32,
        epochs=2,
        arch_lr=0.05,
    ).replace(**changes)


def numbers(run: Run) -> dict:
    """What must be the same in a run that was killed: everything but times."""
    arrays = {name: array.values for name, array in run.history.variables.items()}
    bits = {name: (a.shape, a.tobytes()) for name, a in arrays.items() if name != "seconds"}
    return {"config": run.config.address, "threads": run.provenance["threads"], **bits}


@cache
def undisturbed(config: SearchConfig) -> tuple[dict, float]:
    """The numbers of a search that nobody disturbs, and the seconds that it takes."""

    def work():
        with TemporaryDirectory() as folder:
            start = time.monotonic()
            finish(config, Path(folder))
            return numbers(RunStore(folder).get(config)), time.monotonic() - start

    return in_a_child(work)


def finish(config: SearchConfig, folder: Path) -> None:
    """A search that keeps its state after every step, and its record in a folder."""
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1
    store = RunStore(folder)
    if store.get(config) is None:
        try:
            store.put(search(config, progress=False, checkpoint=store.checkpoint(config)))
        except Interrupted:
            sys.exit(STOPPED)


def wrong_after(configs: list[SearchConfig], folder: Path) -> list[str]:
    """What is wrong with records and folder when searches that were killed have gone on."""

    def work():
        runs = sweep(configs, store=folder, workers=0, progress=False)
        RunStore(folder).prepare()  # as the next sweep that has something to search
        records = {RunStore(folder).path(config) for config in configs}
        files = (path for path in folder.iterdir() if path.suffix != ".part")  # kept for an hour
        left = sorted(path.name for path in files if path not in records)
        return [numbers(run) for run in runs], left

    try:
        runs, left = in_a_child(work)
    except RuntimeError as error:
        return [f"it does not go on: {error}"]
    wrong = [f"{name} is left over" for name in left]
    for config, bits in zip(configs, runs, strict=True):
        expected, _ = undisturbed(config)
        wrong += [f"{name} is another" for name in expected if bits.get(name) != expected[name]]
    return wrong


def random_kills(number: int, chance: random.Random, folder: Path) -> tuple[int, list[str]]:
    """One search that is killed at random times, until it ends all the same."""
    tried = config(FRAMEWORKS[number % len(FRAMEWORKS)])
    _, seconds = undisturbed(tried)
    kills, failures = 0, []
    while True:
        child = FORK.Process(target=finish, args=(tried, folder))
        child.start()
        child.join(chance.uniform(0, seconds) if kills < KILLS_OF_A_SEARCH else 120)
        if child.exitcode is None:
            os.kill(child.pid, chance.choice([signal.SIGTERM, signal.SIGKILL]))
            child.join(10)
            kills += child.exitcode != 0
        if child.exitcode is None:
            child.kill()
            child.join()
            return kills, [f"it runs on after {kills} kills"]
        if child.exitcode == 0:
            failures += wrong_after([tried], folder)
            return kills, [f"after {kills} kills: {failure}" for failure in failures]
        if child.exitcode not in (STOPPED, -signal.SIGTERM, -signal.SIGKILL):
            return kills, [f"exit code {child.exitcode} after {kills} kills"]


def placed_kill(places: list, number: int, chance: random.Random, folder: Path):
    """One search that kills itself at one place, and goes on."""
    place = places[number]
    child = FORK.Process(target=dies_at, args=(place, folder))
    child.start()
    child.join(120)
    if child.exitcode != PLACED:
        child.kill()
        return 1, [f"{place}: it ends with {child.exitcode} instead"]
    return 1, [f"{place}: {failure}" for failure in wrong_after([config()], folder)]


def dies_at(place: tuple[str, int], folder: Path) -> None:
    """A search that kills itself when it comes to a place for the n-th time."""

    def arrive(name: str) -> None:
        passed.append(name)
        if (name, passed.count(name)) == place:
            os._exit(PLACED)

    passed: list[str] = []
    pass_through(arrive)
    finish(config(), folder)


def places() -> list[tuple[str, int]]:
    """Every place that a search comes to, and how often it has come there: (name, n)."""

    def work():
        passed: list[str] = []
        pass_through(passed.append)
        with TemporaryDirectory() as folder:
            finish(config(), Path(folder))
        return [(name, passed[: n + 1].count(name)) for n, name in enumerate(passed)]

    return in_a_child(work)


def pass_through(arrive: Callable[[str], None]) -> None:
    """From now on a search calls ``arrive`` after each step, and at four places of each write."""
    step, write = Search.step, checkpoints.whole_file

    def counted(self, *arguments, **named):
        seen = step(self, *arguments, **named)
        arrive("after a step")
        return seen

    @contextmanager
    def watched(kind: str, path: Path) -> Iterator[Path]:
        with write(path) as part:
            arrive(f"before a {kind} is written")
            yield part
            whole = part.read_bytes()
            part.write_bytes(whole[: len(whole) // 2])
            arrive(f"in the middle of a {kind}")
            part.write_bytes(whole)
            arrive(f"before a {kind} is renamed")
        arrive(f"after a {kind} is renamed")

    Search.step = counted
    checkpoints.whole_file = partial(watched, "checkpoint")
    run.whole_file = partial(watched, "record")


def attacks(kills: int, most: int) -> list[Attack]:
    """So many kills at random times, and one at every place, or at so many at most."""
    everywhere = places()
    random.Random(0).shuffle(everywhere)
    return [
        Attack("kills at random times", kills, random_kills),
        Attack(
            "kills at every place", min(most, len(everywhere)), partial(placed_kill, everywhere)
        ),
    ]
