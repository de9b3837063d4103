"""The command: python -m soak."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from nascore.runs.provenance import code
from soak import flips, inputs, kills, orphans
from soak.trials import run, table

FOLDER = Path(__file__).parents[1] / "_build" / "soak"


def soak(
    seed: Annotated[int, typer.Option(help="Of all that is drawn at random.")] = 0,
    kill: Annotated[int, typer.Option(help="Kills of searches, at random times.")] = 200,
    placed: Annotated[int, typer.Option(help="Kills at a place, at most.")] = 10**6,
    record: Annotated[int, typer.Option(help="Bytes of a record, at most.")] = 10**6,
    checkpoint: Annotated[int, typer.Option(help="Flips in a checkpoint.")] = 1000,
    sweeps: Annotated[int, typer.Option(help="Sweeps that are killed.")] = 15,
    bad: Annotated[int, typer.Option(help="Bad inputs, at most.")] = 10**6,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what was tried before.")] = False,
    folder: Annotated[Path, typer.Option(help="Where results are kept.")] = FOLDER,
) -> None:
    """Attacks the package, prints what came of it, and exits with 1 if anything failed.

    What was tried with the same seed and code is not tried again: a soak that was stopped goes on.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    attacks = [
        *flips.attacks(record, checkpoint, seed),
        *kills.attacks(kill, placed),
        *orphans.attacks(sweeps),
        *inputs.attacks(bad),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{code()}-seed{seed}.jsonl"
    if fresh:
        kept.unlink(missing_ok=True)
    results = [result for attack in attacks for result in run(attack, seed, kept)]
    failures = [(result, line) for result in results for line in result.failures]
    for result, line in failures:
        typer.echo(f"{result.attack}, trial {result.number}: {line}")
    typer.echo(f"\n{table(results)}\n\nresults: {kept}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    typer.run(soak)
