"""Many searches: load what the store has, run the rest in parallel."""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from tqdm import tqdm

from nascore.errors import (
    ConfigError,
    Interrupted,
    RecordError,
    SweepError,
    checked,
    in_one_line,
)
from nascore.runs.config import SearchConfig
from nascore.runs.interruption import stop_on_signals
from nascore.runs.run import Run
from nascore.sweeps import worker
from nascore.sweeps.cluster import Cluster
from nascore.sweeps.processes import Outcome, Task, Team, Todo
from nascore.sweeps.store import RunStore


@checked
def sweep(
    configs: Iterable[SearchConfig],
    *,
    store: RunStore | str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    resources: Mapping[str, float] | None = None,
    slice_seconds: float = 300.0,
    fresh: bool = False,
    progress: bool = True,
) -> list[Run]:
    """Runs many searches in processes of their own, each with one torch thread.

    A run that the store has is loaded, one that was interrupted goes on from its checkpoint, and
    a config given twice runs once, also if other sweeps use the same store meanwhile. The records
    are the same for any number of workers.

    Arguments:
        configs: the searches.
        store: where records are kept, a RunStore or a folder; None keeps them only in memory.
        workers: processes at a time; on a GPU they share it. 0 for this process, one by one.
        scheduler: address of a Dask scheduler, such as "tcp://host:8786", to run there instead.
            Records and checkpoints travel: its workers need not see the store's folder.
        resources: what a Dask worker must offer for one search, such as {"GPU": 1}.
        slice_seconds: time that a search stays on a Dask worker before its checkpoint comes back;
            as much is lost with a worker, at most.
        fresh: run everything, and from the start; a record that the store has stays until its new
            one is whole.
        progress: show a bar over the runs, with the time left.

    Returns the runs in the order of the configs. A search that fails is no obstacle to the others,
    and one whose process dies is tried twice. Raises ConfigError before any work; SweepError at the
    end, which names what has failed; Interrupted within 5 s of Ctrl-C or SIGTERM, when every search
    has written its checkpoint.
    """
    configs = list(configs)
    _check(configs, workers, scheduler, slice_seconds)
    with tempfile.TemporaryDirectory() as folder:
        kept = store is not None
        store = store if isinstance(store, RunStore) else RunStore(store or folder)
        store = RunStore(store.folder.resolve(), store.shipped)  # a worker may be elsewhere
        store.ensure_writable()
        store.clean()
        wanted: dict[str, SearchConfig] = {}
        for config in configs:
            wanted.setdefault(config.hash, config)
        found = {name: None if fresh else store.get(config) for name, config in wanted.items()}
        missing = [config for name, config in wanted.items() if found[name] is None]
        for run in filter(None, found.values()):
            _tell_threads(run)
        if fresh:
            _forget_checkpoints(missing, store)
        todo = Todo(Task(config, store.written(config)) for config in missing)
        have, total = len(found) - len(missing), len(found)
        with tqdm(
            desc="searches",
            total=total,
            initial=have,
            unit="run",
            disable=not (progress and missing),
        ) as bar:
            if missing and scheduler is not None:
                cluster = Cluster(todo, store, scheduler, resources, slice_seconds)
                _finish(cluster.outcomes, bar, store, kept)
            elif missing and workers > 0:
                team = Team(todo, store.folder, min(workers, len(missing)))
                _finish(team.outcomes, bar, store, kept)
            elif missing:
                _finish(partial(_in_this_process, todo, store), bar, store, kept)
        for config in missing:
            found[config.hash] = store.get(config)
            if found[config.hash] is None:
                raise RecordError(f"{store.path(config)} is gone: something has deleted it.")
        return [found[config.hash] for config in configs]


def _check(configs: list, workers: int, scheduler: str | None, slice_seconds: float) -> None:
    """Raises ConfigError for arguments of ``sweep`` that cannot be."""
    if worker.is_worker:
        raise ConfigError(
            "sweep was called in a worker process, which imports the module of a plug-in. Call it "
            'under if __name__ == "__main__": there.'
        )
    if workers < 0:
        raise ConfigError(f"workers={workers}: give 0 for this process, or 1 and more.")
    if not slice_seconds > 0:
        raise ConfigError(f"slice_seconds={slice_seconds}: give a positive number of seconds.")
    for config in configs:
        if not isinstance(config, SearchConfig):
            raise ConfigError(f"{config!r} is not a SearchConfig: sweep takes a list of them.")
        for name in config.plug_ins if workers > 0 or scheduler is not None else ():
            if name.startswith("__main__:"):
                raise ConfigError(
                    f"{name} is defined in a notebook or a script, where no other process finds "
                    "it. Use workers=0, or move it to a file my_module.py and name it "
                    f"{name.replace('__main__', 'my_module')!r}."
                )


def _tell_threads(run: Run) -> None:
    """Warns of a run whose last bits are not those of a sweep, which takes one thread."""
    made = run.provenance
    if made["device"].startswith("cpu") and made["threads"] != 1:
        warnings.warn(
            f"run {run.config.hash} was made with {made['threads']} threads, which round otherwise "
            "than one, as of a sweep. Take fresh=True (--fresh) to make it again.",
            stacklevel=3,
        )


def _forget_checkpoints(configs: Iterable[SearchConfig], store: RunStore) -> None:
    """Deletes what searches would go on from, unless another process is at them just now."""
    for config in configs:
        with store.claim(config) as ours:
            if ours:
                store.checkpoint(config).unlink(missing_ok=True)


def _finish(
    outcomes: Callable[[Callable[[], bool]], Iterator[Outcome]],
    bar: tqdm,
    store: RunStore,
    kept: bool,
) -> None:
    """Waits until every search has ended, and says what happens meanwhile.

    Arguments:
        outcomes: yields each search as it ends; its argument says whether to stop.
        kept: whether the store stays.

    Raises Interrupted if it was told to stop, and SweepError if a search has failed.
    """
    failed: dict[str, str] = {}
    with stop_on_signals() as stop, closing(outcomes(stop)) as ended:
        for config, error, notes in ended:
            name = store.path(config).stem
            if error is not None:
                failed[name] = error
                notes = [*notes, f"failed: {error}"] if not bar.disable else notes
            for note in notes:
                bar.write(f"{name}: {note}", file=sys.stderr)
            bar.update()
            bar.set_postfix({"failed": len(failed)} if failed else {})
    if stop():
        where = f"Run the same again to go on: what was done is in {store.folder}."
        raise Interrupted(
            f"interrupted with {bar.n - len(failed)} of {bar.total} searches done. "
            + (where if kept else "Give a store to keep what is done, and to go on from there."),
            stop.first,
        )
    if failed:
        raise SweepError(_what_failed(failed, bar.total))


def _what_failed(failed: Mapping[str, str], total: int) -> str:
    """The error of each search, one line each; an error that all have in common is said once."""
    of = f"{len(failed)} of {total} searches failed"
    errors = set(failed.values())
    if len(errors) == 1:
        return f"{of} ({', '.join(failed)}): {errors.pop()}"
    return "\n".join([f"{of}:", *(f"  {name}: {error}" for name, error in failed.items())])


def _in_this_process(todo: Todo, store: RunStore, stop: Callable[[], bool]) -> Iterator[Outcome]:
    """Searches one after the other, without any other process."""
    while not stop() and (task := todo.take()):
        try:
            answer = worker.attempt(task.config, store, task.known, stop)
        except Interrupted:
            return
        except Exception as error:
            yield Outcome(task.config, in_one_line(error))
            continue
        if answer["state"] == "taken":
            todo.put_back(task)
        else:
            yield Outcome(task.config, notes=answer["notes"])
