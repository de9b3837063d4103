"""Where the searches of a sweep run: in processes of this machine, or on a Dask cluster.

Nothing here imports torch at the top: a worker watches its parent before anything slow begins.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from loky import BrokenProcessPool, ProcessPoolExecutor
from tqdm import tqdm

from nascore.errors import ConfigError, Interrupted, RecordError, SweepError, in_one_line
from nascore.folders import whole_file
from nascore.runs.interruption import SIGNALS

if TYPE_CHECKING:
    from nascore.runs.config import SearchConfig
    from nascore.runs.run import Run

LONG_WAIT = 10.0  # seconds until it is said that no Dask worker offers what a search needs
GRACE = 3.5  # seconds that a search has to write its checkpoint in


def search_here(
    config: "SearchConfig", *, checkpoint: Path, stop: Callable[[], bool], folder: Path
) -> "Run":
    """Searches in this process, and says how far it is in a file of the folder, by its hash."""
    from nascore.runs.loop import search

    report = partial(_report, folder / config.hash)
    return search(config, checkpoint=checkpoint, progress=report, threads=1, stop=stop)


def _report(file: Path, steps: int, where: str) -> None:
    file.write_text(f"{steps} {where}", encoding="utf-8")


def progress_in(file: Path) -> tuple[int, str]:
    """Steps that a search has done, and where it is, from its file."""
    with suppress(OSError, ValueError):  # it has not begun, or is just writing
        steps, _, where = file.read_text(encoding="utf-8").partition(" ")
        return int(steps), where
    return 0, ""


@contextmanager
def processes(
    number: int, folder: Path, seconds: float = math.inf, expected_hash: str | None = None
) -> Iterator[Callable[..., "Run"]]:
    """Worker processes, each of an executor of its own: if it dies, it takes no other one along.

    Yields a function of a config and its ``checkpoint``, to be called from so many threads. A
    search is tried again if its worker dies, and interrupted at the end of the context, or after
    some seconds. It says how far it is in the folder, as ``search_here``. It is refused if its
    config has another hash in the worker: by default, than it has here.

    The function raises what the search raises, and SweepError if two workers have died.
    """
    lifeline, ours = multiprocessing.Pipe(duplex=False)  # broken when we close it, or are gone
    running: dict[ProcessPoolExecutor, Future] = {}
    free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

    start = partial(ProcessPoolExecutor, 1, initializer=_start_worker, initargs=(lifeline,))
    for _ in range(number):
        free.put(start())

    def search(config: "SearchConfig", *, checkpoint: Path) -> "Run":
        arguments = config, expected_hash or config.hash, checkpoint, seconds, folder
        for again in (True, False):
            worker = free.get()
            try:
                running[worker] = worker.submit(_search, *arguments)
                return running[worker].result()
            except BrokenProcessPool:
                worker = start()
                if ours.closed:
                    raise Interrupted("") from None
                if again:
                    note = f"{checkpoint.stem}: its worker died; another one goes on"
                    tqdm.write(note, file=sys.stderr)
            finally:
                free.put(worker)
        raise SweepError("its worker died twice. If memory has run out, use fewer workers.")

    try:
        yield search
    finally:
        ours.close()
        try:
            wait(list(running.values()), timeout=GRACE)
        finally:  # also at a second Ctrl-C
            for worker in list(running):
                worker.shutdown(kill_workers=True)
            lifeline.close()


# The worker's side.
in_worker = threading.Event()  # set in a worker
_stopped = threading.Event()
_searching = threading.Lock()


def _start_worker(lifeline: Connection) -> None:
    """Prepares this process: signals are for its parent, whose end is its own, too."""
    in_worker.set()
    tqdm.set_lock(threading.RLock())  # its own would outlive a process that is killed
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    """Ends this process once the lifeline is broken and a search has written its checkpoint."""
    with suppress(EOFError):
        lifeline.recv_bytes()  # nothing is ever sent
    _stopped.set()
    _searching.acquire(timeout=GRACE)
    os._exit(1)


def _search(
    config: "SearchConfig", expected_hash: str, checkpoint: Path, seconds: float, folder: Path
) -> "Run":
    """Searches in this process. Raises Interrupted after so many seconds."""
    with _searching:
        try:
            if config.hash != expected_hash:
                names = ", ".join(config.plug_ins) or "nascore"
                raise ConfigError(f"the source of {names} is another one here than in the sweep.")
            begun = cache(time.monotonic)  # the time when it is first asked for, after a step

            def stop() -> bool:
                return _stopped.is_set() or time.monotonic() > begun() + seconds

            return search_here(config, checkpoint=checkpoint, stop=stop, folder=folder)
        except RecordError:
            raise
        except Exception as error:  # its traceback stays in this process
            raise SweepError(in_one_line(error)) from None


@contextmanager
def cluster(
    address: str, resources: Mapping[str, float] | None, slice_seconds: float
) -> Iterator[Callable[..., "Run"]]:
    """A Dask cluster. Yields a function of a config and its ``checkpoint``.

    A search goes there in slices, and its checkpoint with it: a task searches for some seconds, and
    returns the run or the checkpoint that the next task goes on from. So no folder is shared, and
    a lost worker costs one slice.

    If no worker offers the resources after some seconds, a line says so: searches wait for one.

    Raises ConfigError if no scheduler answers. The function raises SweepError if it is gone.
    """
    try:
        from distributed import Client

        client = Client(address, timeout=5, set_as_default=False)
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"scheduler={address!r}: no Dask scheduler answers there ({in_one_line(error)}). "
            'Install nascore[cluster] and start one with "dask scheduler", or leave scheduler out.'
        ) from None

    def search(config: "SearchConfig", *, checkpoint: Path) -> "Run":
        for number in count():
            state = checkpoint.read_bytes() if checkpoint.exists() else None
            work = search_slice, config, config.hash, state, slice_seconds
            try:  # what has begun goes before what has not
                future = client.submit(*work, pure=False, priority=number, resources=resources)
                run, state = future.result()
            except (Exception, CancelledError):
                if client.status == "running":
                    raise
                message = f"the Dask scheduler at {address} is gone. Run the same again to go on."
                raise SweepError(message) from None
            if run is not None:
                return run
            with whole_file(checkpoint) as part:
                part.write_bytes(state)

    def report_lack() -> None:
        """Says what no worker offers, if none does."""
        try:
            infos = client.sync(client.scheduler.identity)["workers"].values()
        except OSError:  # the scheduler is gone, as each search will say
            return
        wanted = (resources or {}).items()
        if any(all(info["resources"].get(n, 0) >= x for n, x in wanted) for info in infos):
            return
        text = ",".join(f"{name}={number:g}" for name, number in wanted)
        lack = f"none of {len(infos)} Dask workers offers {text}" if infos else "there is no worker"
        start = f"dask worker {address}" + (text and f" --resources {text}")
        tqdm.write(f"the searches wait: {lack}. Start one: {start}", file=sys.stderr)

    report = threading.Timer(LONG_WAIT, report_lack)
    report.daemon = True
    report.start()
    try:
        yield search
    finally:
        report.cancel()
        client.close(timeout=2)


def search_slice(
    config: "SearchConfig", expected_hash: str, state: bytes | None, seconds: float
) -> tuple["Run | None", bytes | None]:
    """Searches for a while, in a process beside a Dask worker; returns the run or a checkpoint."""
    multiprocessing.current_process().daemon = False  # Dask's workers are: they have no children
    with TemporaryDirectory() as name, processes(1, Path(name), seconds, expected_hash) as search:
        path = Path(name) / "checkpoint"
        if state is not None:
            path.write_bytes(state)
        try:
            return search(config, checkpoint=path), None
        except Interrupted:  # after one step at least, with a checkpoint
            return None, path.read_bytes()
