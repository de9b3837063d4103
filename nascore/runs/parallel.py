"""Many searches: load what the store has, run the rest in parallel."""

import multiprocessing
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from nascore.errors import ConfigError, RecordError, checked
from nascore.runs.config import SearchConfig
from nascore.runs.loop import search
from nascore.runs.run import Run
from nascore.runs.store import RunStore


@checked
def sweep(
    configs: Iterable[SearchConfig],
    *,
    store: RunStore | str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> list[Run]:
    """Runs many searches in processes of their own, each with one torch thread.

    A run that the store has is loaded, one that was interrupted goes on from its checkpoint, and
    a config given twice runs once. The records are the same for any number of workers.

    Arguments:
        store: where records are kept, a RunStore or a folder; None keeps them only in memory.
        workers: processes at a time; on a GPU they share it. 0 for this process, one by one.
        scheduler: address of a Dask scheduler, such as "tcp://host:8786", to run there instead.
            Its workers must see the store's folder.
        fresh: run everything; a record that the store has stays until its new one is whole.

    Returns the runs in the order of the configs. Raises ConfigError before any work, and the
    error of the first search that fails, after every run that was already under way has ended.
    """
    configs = list(configs)
    if workers < 0:
        raise ConfigError(f"workers={workers}: give 0 for this process, or 1 and more.")
    for config in configs:
        if not isinstance(config, SearchConfig):
            raise ConfigError(f"{config!r} is not a SearchConfig: sweep takes a list of them.")
        for name in config.plug_ins if workers > 0 or scheduler is not None else ():
            if name.startswith("__main__:"):
                other = name.replace("__main__", "my_module")
                raise ConfigError(
                    f"{name} is defined in a notebook or a script, where no other process finds "
                    f"it. Use workers=0, or move it to my_module.py and name it {other!r}."
                )
    with tempfile.TemporaryDirectory() as folder:
        store = store if isinstance(store, RunStore) else RunStore(store or folder)
        store = RunStore(store.folder.resolve(), store.shipped)  # a worker may be elsewhere
        wanted: dict[str, SearchConfig] = {}
        for config in configs:
            wanted.setdefault(config.hash, config)
        found = {name: None if fresh else store.get(config) for name, config in wanted.items()}
        missing = [config for name, config in wanted.items() if found[name] is None]
        have = len(found) - len(missing)
        store.ensure_writable()
        shown = {"desc": "searches", "unit": "run", "disable": not progress}
        with tqdm(total=len(found), initial=have, **shown) as bar:
            for _ in _ended(missing, RunStore(store.folder), workers, scheduler):
                bar.update()
        for config in missing:
            found[config.hash] = store.get(config)
            if found[config.hash] is None:
                path = store.path(config)
                raise RecordError(f"{path} was not written: do the workers see this folder?")
        return [found[config.hash] for config in configs]


def _ended(
    configs: list[SearchConfig], store: RunStore, workers: int, scheduler: str | None
) -> Iterator[None]:
    """Runs searches, and yields whenever one has ended and its record is in the store."""
    if workers == 0 and scheduler is None:
        yield from (_run(config, store) for config in configs)
        return
    with _executor(min(workers, len(configs)), scheduler) as executor:
        jobs = [executor.submit(_run, config, store) for config in configs]
        try:
            yield from (job.result() for job in as_completed(jobs))
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker ended abruptly. In a script, call sweep under "
                'if __name__ == "__main__": as workers import the script; else memory may have '
                "run out: use fewer workers."
            ) from None
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _run(config: SearchConfig, store: RunStore) -> None:
    """One search in a worker. Its record goes to the store."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        store.put(search(config, progress=False, checkpoint=store.checkpoint(config)))
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _executor(workers: int, scheduler: str | None):
    """Where the searches run: processes of this machine, or a Dask cluster."""
    if scheduler is not None:
        from distributed import Client

        with Client(scheduler) as client, client.get_executor(pure=False) as executor:
            yield executor
        return
    # A fresh interpreter for each worker: a forked one would share torch's thread pools.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(workers, 1), context) as executor:
        yield executor
