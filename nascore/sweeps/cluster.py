"""Sweeps on a Dask cluster: each search goes there in slices, and its checkpoint with it.

A task searches for some minutes and returns the record, or the checkpoint that the next task goes
on from. So no folder is shared, and a lost worker or scheduler costs one slice at most.
"""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nascore.errors import ConfigError, SweepError, in_one_line
from nascore.folders import whole_file
from nascore.sweeps.processes import Outcome, Task, Todo, Worker

if TYPE_CHECKING:
    from distributed import Client, Future

    from nascore.sweeps.store import RunStore

IN_FLIGHT = 400  # searches that are with the cluster at a time: each holds a lock file open
PATIENCE = 600.0  # seconds to wait for a scheduler that was there and is gone


def slice_of_search(
    request: dict[str, Any], name: str, checkpoint: bytes | None
) -> tuple[dict[str, Any], bytes | None]:
    """Searches for a while, in a process of its own: it runs on a worker of the cluster.

    Arguments:
        request: for a worker process, see worker.py.
        name: of the record, without its suffix.
        checkpoint: to go on from.

    Returns the answer, and the bytes of the record if it is done, else of the checkpoint.
    """
    with TemporaryDirectory() as folder:
        path = f"{folder}/{name}.checkpoint"
        if checkpoint is not None:
            with open(path, "wb") as file:
                file.write(checkpoint)
        with Worker() as worker:
            answer = worker.ask({**request, "folder": folder}) or {"state": "died", "notes": []}
        path = f"{folder}/{name}.nc" if answer["state"] == "done" else path
        with suppress(FileNotFoundError), open(path, "rb") as file:
            return answer, file.read()
    return answer, None


class _Flight:
    """A search that is with the cluster, claimed for us until it is closed."""

    def __init__(self, task: Task):
        self.task, self.claim = task, ExitStack()
        self.slices, self.deaths, self.notes = 0, 0, []
        self.future: Future | None = None  # of its slice: Dask forgets one that nobody holds


class Cluster:
    """Searches on a Dask cluster.

    Arguments:
        todo: the searches.
        store: of this machine, where records and checkpoints are put.
        address: of the scheduler.
        resources: what a worker must offer for one search, such as {"GPU": 1}.
        seconds: how long a task searches before it returns.

    Raises ConfigError if no scheduler answers.
    """

    def __init__(
        self,
        todo: Todo,
        store: "RunStore",
        address: str,
        resources: Mapping[str, float] | None,
        seconds: float,
    ):
        self.todo, self.store, self.address = todo, store, address
        self.resources, self.seconds = resources, seconds
        self._flights: set[_Flight] = set()
        self._arrived: SimpleQueue = SimpleQueue()
        try:
            self._client = self._connect()
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"scheduler={address!r}: no Dask scheduler answers there ({in_one_line(error)}). "
                'Start one with "dask scheduler", or leave scheduler out to run on this machine.'
            ) from None

    def outcomes(self, stop: Callable[[], bool]) -> Iterator[Outcome]:
        """Yields each search as it ends, until all have ended or it is told to stop.

        Raises SweepError if the scheduler is gone, and stays away.
        """
        try:
            while not stop():
                yield from self._take_off()
                if not self._flights and not self.todo:
                    return
                with suppress(Empty):
                    flight = self._arrived.get(timeout=0.2)
                    answer, data = self._result(flight)
                    if answer["state"] == "lost":
                        self._start_again(stop)
                    else:
                        yield from self._land(flight, answer, data)
        finally:
            self._client.close(timeout=2)
            for flight in self._flights:
                flight.claim.close()

    def _connect(self) -> "Client":
        try:
            from distributed import Client
        except ImportError:
            raise ConfigError(
                "scheduler= needs Dask: python -m pip install 'nascore[cluster]'."
            ) from None
        return Client(self.address, timeout=5, set_as_default=False)

    def _start_again(self, stop: Callable[[], bool]) -> None:
        """Waits for the scheduler to be there again, and gives it all that is in flight."""
        self._client.close(timeout=2)
        self._arrived = SimpleQueue()
        end = time.monotonic() + PATIENCE
        while not stop():
            try:
                self._client = self._connect()
                break
            except OSError:
                if time.monotonic() > end:
                    raise SweepError(
                        f"the Dask scheduler at {self.address} has been gone for "
                        f"{PATIENCE / 60:.0f} minutes. Run the same again to go on: what was "
                        f"done is in {self.store.folder}."
                    ) from None
        for flight in self._flights:
            self._submit(flight)

    def _take_off(self) -> Iterator[Outcome]:
        """Submits what may be, and yields what another process has done by now."""
        while len(self._flights) < IN_FLIGHT and (task := self.todo.take(wait=False)):
            flight = _Flight(task)
            if not flight.claim.enter_context(self.store.claim(task.config)):
                self.todo.put_back(task)
            elif self.store.written(task.config) != task.known:
                flight.claim.close()
                yield Outcome(task.config)
            else:
                self._flights.add(flight)
                self._submit(flight)

    def _submit(self, flight: _Flight) -> None:
        """Sends the next slice of a search. What has begun goes before what has not."""
        arrived, checkpoint = self._arrived, self.store.checkpoint(flight.task.config)
        flight.future = self._client.submit(
            slice_of_search,
            {**flight.task.request, "known": None, "seconds": self.seconds},
            checkpoint.stem,
            checkpoint.read_bytes() if checkpoint.exists() else None,
            pure=False,
            priority=flight.slices,
            resources=self.resources,
        )
        flight.future.add_done_callback(lambda _: arrived.put(flight))

    def _result(self, flight: _Flight) -> tuple[dict[str, Any], bytes | None]:
        """What ``slice_of_search`` returned. Its state is lost if the scheduler is gone."""
        try:
            return flight.future.result()
        except (Exception, CancelledError) as error:
            if flight.future.status != "error":
                return {"state": "lost"}, None
            # No nascore there, or every Dask worker that took it has died.
            return {"state": "failed", "error": in_one_line(error), "notes": []}, None

    def _land(
        self, flight: _Flight, answer: dict[str, Any], data: bytes | None
    ) -> Iterator[Outcome]:
        """Keeps what came of a slice, and yields the outcome or sends the next slice."""
        config, store = flight.task.config, self.store
        flight.notes += answer["notes"]
        flight.slices += 1
        state, error = answer["state"], answer.get("error")
        if data is not None:
            path = store.path(config) if state == "done" else store.checkpoint(config)
            with whole_file(path) as part:
                part.write_bytes(data)
        if state == "died":
            flight.deaths += 1
            if flight.deaths == 2:
                error = "its process died twice. If memory has run out, use larger workers."
        if state == "done":
            store.checkpoint(config).unlink(missing_ok=True)
        elif error is None:
            self._submit(flight)
            return
        self._flights.remove(flight)
        flight.claim.close()
        yield Outcome(config, error, flight.notes)
