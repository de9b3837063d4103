"""Trials: attacks in small pieces, each repeatable by its seed and its number, and their table."""

import json
import random
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

torch.set_num_threads(1)  # before any work: a process with more threads cannot be forked
FORK = get_context("fork")  # a copy of this process has imported everything already


@dataclass(frozen=True)
class Attack:
    """An attack.

    Arguments:
        name: for people.
        goal: how many tries are wanted.
        trial: makes some tries, given the trial's number, what draws at random and an empty folder.
            Returns how many, and a line for each that failed.
    """

    name: str
    goal: int
    trial: Callable[[int, random.Random, Path], tuple[int, list[str]]]


@dataclass(frozen=True)
class Result:
    """What came of one trial of an attack."""

    attack: str
    number: int
    tries: int
    failures: list[str]
    seconds: float


def run(attack: Attack, seed: int, kept: Path) -> list[Result]:
    """Makes the trials of an attack until its goal is met, and keeps each result.

    Arguments:
        kept: a file, one result a line; the trials that it has are not made again.
    """
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    results = [
        result for line in lines if (result := Result(**json.loads(line))).attack == attack.name
    ]
    done = sum(result.tries for result in results)
    bar = tqdm(desc=attack.name, total=attack.goal, initial=done)
    with bar, kept.open("a", encoding="utf-8") as file:
        while done < attack.goal:
            number, start = len(results), time.monotonic()
            with TemporaryDirectory() as folder:
                chance = random.Random(f"{seed} {attack.name} {number}")
                tries, failures = attack.trial(number, chance, Path(folder))
            seconds = round(time.monotonic() - start, 1)
            results.append(Result(attack.name, number, tries, failures, seconds))
            file.write(json.dumps(asdict(results[-1])) + "\n")
            file.flush()
            done += tries
            bar.update(tries)
            for failure in failures:
                bar.write(f"{attack.name}, trial {number}: {failure}")
    return results


def table(results: Iterable[Result]) -> str:
    """What came of each attack: tries, failures, minutes."""
    totals: dict[str, list[float]] = {}
    for result in results:
        total = totals.setdefault(result.attack, [0, 0, 0.0])
        total[0] += result.tries
        total[1] += len(result.failures)
        total[2] += result.seconds / 60
    lines = [f"{'attack':44s} {'tries':>8s} {'failed':>8s} {'minutes':>8s}"]
    for name, (tries, failed, minutes) in totals.items():
        lines.append(f"{name:44s} {tries:8d} {failed:8d} {minutes:8.1f}")
    return "\n".join(lines)


def in_a_child(work: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What some work returns in a process of its own, so that none of it stays in this one.

    Raises RuntimeError if it fails, dies or takes longer.
    """
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_answer, args=(work, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise RuntimeError(f"no end after {seconds:.0f} s")
        value, error = ours.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"died with exit code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        ours.close()
    if error is not None:
        raise RuntimeError(error)
    return value


def _answer(work: Callable[[], Any], pipe: Connection) -> None:
    try:
        answer = work(), None
    except Exception:
        answer = None, traceback.format_exc()
    pipe.send(answer)
