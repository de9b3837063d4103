"""One search that is kept in a store, and many of them in parallel."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from loky import cpu_count
from tqdm import tqdm

from nascore.errors import ConfigError, Interrupted, RecordError, SweepError, checked, in_one_line
from nascore.runs.algorithm import find_device
from nascore.runs.config import SearchConfig
from nascore.runs.interruption import stop_on_signals
from nascore.runs.loop import search
from nascore.runs.progress import open_bar
from nascore.runs.run import Run
from nascore.sweeps.store import RunStore
from nascore.sweeps.workers import cluster, in_worker, processes, progress_in, search_here

IN_FLIGHT = 400  # searches that are with a cluster at a time: each holds a lock file open
FEW_STEPS = 2000  # that are not worth an estimate
MOST_ON_A_GPU, CONTEXT = 8, 2**30  # searches that share one; bytes that each process takes besides
PAUSE = 0.5  # seconds until a search that another process is at is looked at again


def advance(
    config: SearchConfig, store: RunStore, search: Callable[..., Run], *, fresh: bool = False
) -> Run | None:
    """The run of a config: of the store, or searched, from its checkpoint on, and put there.

    The function that searches takes a config and its ``checkpoint``. A checkpoint that is refused
    is deleted, and its search begins anew; with ``fresh``, neither a record nor a checkpoint is
    taken. Returns None, after a pause, if another process is at this search.

    Raises what the search raises; its checkpoint stays in the store.
    """
    with store.claim(config) as ours:
        if not ours:
            time.sleep(PAUSE)
            return None
        checkpoint = store.checkpoint(config)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        elif (run := store.get(config)) is not None:
            return run
        try:
            run = search(config, checkpoint=checkpoint)
        except RecordError as error:
            if not checkpoint.exists():
                raise
            checkpoint.unlink()
            tqdm.write(f"{error} That is done, and the search begins.", file=sys.stderr)
            run = search(config, checkpoint=checkpoint)
        store.put(run)
        return run


@checked
def sweep(
    configs: Iterable[SearchConfig],
    *,
    store: RunStore | str | Path | None = None,
    workers: int | None = None,
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
        workers: processes at a time; on a GPU they share it. 0 for this process, one by one. None
            takes 0 for a single search, else as many as there are cores and a GPU's memory holds.
        scheduler: address of a Dask scheduler, such as "tcp://host:8786", to run there instead.
            Records and checkpoints travel: its workers need not see the store's folder.
        resources: what a Dask worker must offer for one search, such as {"GPU": 1}.
        slice_seconds: time until the checkpoint comes back from a Dask worker, and that is lost
            with a worker at most.
        fresh: run everything, from the start; a record stays until its new one is whole.
        progress: say how many searches are run and about how long that takes; show a bar over their
            steps, with the time left.

    Returns the runs in the order of the configs. Raises ConfigError or RecordError before any
    work; SweepError at the end, which names each search that has failed, or whose process has died
    twice; Interrupted within 5 s of Ctrl-C or SIGTERM, when every search has its checkpoint.
    """
    configs = list(configs)
    _check(configs, workers, scheduler)
    with tempfile.TemporaryDirectory() as folder, stop_on_signals() as stop:
        records = store if isinstance(store, RunStore) else RunStore(store or folder)
        wanted = {config.hash: config for config in configs}
        runs = {name: None if fresh else records.get(config) for name, config in wanted.items()}
        todo = [config for name, config in wanted.items() if runs[name] is None]
        if todo:
            records.prepare()
        if workers is None and scheduler is None:
            workers = _fitting(todo, stop)
        size = min(workers if scheduler is None else IN_FLIGHT, len(todo))
        if size == 0:
            place = nullcontext(partial(search_here, stop=stop, folder=Path(folder)))
        elif scheduler is None:
            place = processes(size, Path(folder))
        else:
            place = cluster(scheduler, resources, slice_seconds)
        threads = ThreadPoolExecutor(max(size, 1))  # each searches, or waits for a search elsewhere
        failed: dict[str, list[str]] = {}  # searches by their error

        def work(config: SearchConfig) -> Run | None:
            return None if stop() else advance(config, records, search, fresh=fresh)

        if progress := progress and bool(todo):
            loaded = [run for run in runs.values() if run is not None]
            plan = "" if scheduler else _plan(todo, loaded, records, max(size, 1), stop)
            line = f"searches: {len(todo)} to run, {len(loaded)} loaded{plan}"
            tqdm.write(line, file=sys.stderr)
        total = sum(config.steps for config in todo)
        bar = open_bar(desc="searches", total=total, unit="step", disable=not progress)
        with bar, threads, place as search:
            running = {threads.submit(work, config): config for config in todo}
            while running:
                done = wait(running, 0.1, FIRST_COMPLETED).done
                at = [progress_in(Path(folder) / config.hash) for config in running.values()]
                where = max(at)[1]  # of the one that is furthest
                number = f"{len(todo) - len(running)} of {len(todo)} done"
                bar.set_postfix_str(", ".join(filter(None, [number, where])), refresh=False)
                left = sum(config.steps for config in running.values())
                bar.update(total - left + sum(steps for steps, _ in at) - bar.n)
                if stop():
                    number = sum(run is not None for run in runs.values())
                    advice = f"Run the same again to go on: what was done is in {records.folder}."
                    if store is None:
                        advice = "Give a store to keep what is done, and to go on from there."
                    message = f"interrupted with {number} of {len(runs)} searches done. {advice}"
                    raise Interrupted(message, stop.first)
                for future in done:
                    config = running.pop(future)
                    if (error := future.exception()) is not None:
                        name, line = records.path(config).stem, in_one_line(error)
                        failed.setdefault(line, []).append(name)
                        if progress:
                            bar.write(f"{name}: failed: {line}", file=sys.stderr)
                    elif (run := future.result()) is not None:
                        runs[config.hash] = run
                    else:
                        running[threads.submit(work, config)] = config
            bar.set_postfix_str(f"{len(todo)} of {len(todo)} done", refresh=False)
            bar.update(total - bar.n)
    if failed:
        number = sum(map(len, failed.values()))
        lines = [f"  {', '.join(names)}: {error}" for error, names in failed.items()]
        raise SweepError("\n".join([f"{number} of {len(runs)} searches failed:", *lines]))
    return [runs[config.hash] for config in configs]


def _plan(
    todo: Sequence[SearchConfig],
    loaded: Sequence[Run],
    records: RunStore,
    at_a_time: int,
    stop: Callable[[], bool],
) -> str:
    """Where the searches run, how many at a time, and about how long they take on this machine."""
    device = find_device(todo[0].device)
    text = f"; on {device}, {at_a_time} at a time"
    if sum(config.steps for config in todo) < FEW_STEPS:
        return text
    kinds = [config.replace(seed=0) for config in todo]
    seconds = {  # by records made here: those that come with the book are of another machine
        run.config.replace(seed=0): run.provenance["wall_seconds"]
        for run in loaded
        if records.path(run.config).exists() and run.provenance["device"].startswith(device.type)
    }
    new = set(kinds) - seconds.keys()
    seconds |= {kind: kind.steps * _step_seconds(kind, stop) for kind in new}
    minutes = sum(seconds[kind] for kind in kinds) / at_a_time / 60
    by = "ten steps of each new kind" if new else "records of the same kind"
    return f"{text}: about {max(minutes, 1):.0f} min, by {by}"


def _step_seconds(config: SearchConfig, stop: Callable[[], bool]) -> float:
    """Seconds of a step here, from ten of them; 0 if it fails, as its own run will tell."""
    times = []

    def enough() -> bool:
        times.append(time.perf_counter())
        return stop() or len(times) > 11

    with suppress(Exception, Interrupted):
        search(config, progress=False, threads=1, stop=enough)
    return (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else 0.0


def _fitting(configs: Sequence[SearchConfig], stop: Callable[[], bool]) -> int:
    """How many workers fit: 0 for a single search, or for what is defined here; else one a core.

    On a GPU that several searches share, few enough for its memory, as ten steps of each kind take
    it. There 4 at once took 1.3 times as long as one on an H100, and 8 took 1.8 times as long.
    """
    here = any(name.startswith("__main__:") for config in configs for name in config.plug_ins)
    (device, *others) = {find_device(config.device) for config in configs} or {None}
    if here or others or len(configs) < 2 or device.type == "mps":
        return 0
    if device.type == "cpu":
        return cpu_count()
    for kind in {config.replace(seed=0) for config in configs}:
        _step_seconds(kind, stop)
    needed = torch.cuda.max_memory_reserved(device) + CONTEXT
    torch.cuda.empty_cache()
    return min(cpu_count(), MOST_ON_A_GPU, torch.cuda.mem_get_info(device)[0] // needed)


def _check(configs: list, workers: int | None, scheduler: str | None) -> None:
    """Raises ConfigError for arguments of ``sweep`` that cannot be."""
    if in_worker.is_set():
        raise ConfigError(
            "sweep was called in a worker process, which imports the module of a plug-in. Call it "
            'under if __name__ == "__main__": there.'
        )
    if workers is not None and workers < 0:
        raise ConfigError(f"workers={workers}: give 0 for this process, or 1 and more.")
    for config in configs:
        if not isinstance(config, SearchConfig):
            raise ConfigError(f"{config!r} is not a SearchConfig: sweep takes a list of them.")
        for name in config.plug_ins if workers or scheduler is not None else ():
            if name.startswith("__main__:"):
                raise ConfigError(
                    f"{name} is defined in a notebook or a script, where no other process finds "
                    "it. Use workers=0, or move it to a file my_module.py and name it "
                    f"{name.replace('__main__', 'my_module')!r}."
                )
