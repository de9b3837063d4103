"""Sweeps in processes of this machine: workers from their parent's side."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from nascore.runs.config import SearchConfig
from nascore.sweeps.worker import GRACE, STOP

PATIENCE = 3.5  # seconds that workers have to stop, once they are told to
BACK = 1.0  # seconds until a search that another process is at is looked at again


class Task(NamedTuple):
    """A search to do, and when its record that does not count was written, in ns."""

    config: SearchConfig
    known: int | None = None

    @property
    def request(self) -> dict[str, Any]:
        """What a worker is told of it."""
        fields = self.config.model_dump(mode="json")
        return {"config": fields, "hash": self.config.hash, "known": self.known}


class Outcome(NamedTuple):
    """A search that has ended: done, or with an error, in one line; and notes for the user."""

    config: SearchConfig
    error: str | None = None
    notes: Iterable[str] = ()


class Todo:
    """Tasks, first come, first served, for several threads."""

    def __init__(self, tasks: Iterable[Task]):
        self._tasks = deque((0.0, task) for task in tasks)  # with the time it waits for
        self._closed = threading.Event()

    def take(self, wait: bool = True) -> Task | None:
        """The next task; None if there is none, it must still wait, or the list is closed."""
        try:
            when, task = self._tasks.popleft()
        except IndexError:
            return None
        left = max(0.0, when - time.monotonic())
        if not wait and left:
            self._tasks.appendleft((when, task))
            return None
        return None if self._closed.wait(left) else task

    def put_back(self, task: Task) -> None:
        """Another process is at this one: all others come first, and some time must pass."""
        self._tasks.append((time.monotonic() + BACK, task))

    def __len__(self) -> int:
        return len(self._tasks)

    def close(self) -> None:
        """Nothing new is begun."""
        self._closed.set()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()


class Worker:
    """A worker process. It ends with this one, however this one ends."""

    def __init__(self):
        program = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from nascore.sweeps.worker import main; main()"
        )
        # Blocked here, Ctrl-C is blocked in what is started: it is for the parent alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._sending = threading.Lock()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a request, see worker.py; None if the process died without one."""
        self.tell(json.dumps(request).encode() + b"\n")
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def tell(self, line: bytes) -> None:
        """Sends a line, if the process is there to read it."""
        with self._sending, suppress(BrokenPipeError, ValueError):  # dead, or closed by end()
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def end(self) -> str:
        """Ends the process, and returns how it ended, such as "SIGKILL"."""
        with self._sending, suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            code = self.process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class Team:
    """Workers that share a list of tasks, each driven by a thread of this process.

    Arguments:
        todo: the tasks.
        folder: of the store.
        size: how many workers.
    """

    def __init__(self, todo: Todo, folder: Path, size: int):
        self.todo, self.folder = todo, folder
        self._workers: set[Worker] = set()
        self._outcomes: SimpleQueue[Outcome | Exception] = SimpleQueue()
        self._drivers = [threading.Thread(target=self._drive, daemon=True) for _ in range(size)]

    def outcomes(self, stop: Callable[[], bool]) -> Iterator[Outcome]:
        """Yields each search as it ends; all have ended with the iterator, or were told to."""
        for driver in self._drivers:
            driver.start()
        try:
            while not stop():
                ended = not any(driver.is_alive() for driver in self._drivers)
                with suppress(Empty):
                    outcome = self._outcomes.get(timeout=0 if ended else 0.1)
                    if isinstance(outcome, Exception):
                        raise outcome
                    yield outcome
                    continue
                if ended:
                    return
        finally:
            self._wind_up()

    def _wind_up(self) -> None:
        """Workers write their checkpoints and stop; what is left after some seconds is killed."""
        self.todo.close()
        end = time.monotonic() + PATIENCE
        try:
            while any(driver.is_alive() for driver in self._drivers) and time.monotonic() < end:
                for worker in tuple(self._workers):
                    worker.tell(STOP)
                time.sleep(0.05)
        finally:
            for worker in tuple(self._workers):
                worker.process.kill()

    def _drive(self) -> None:
        worker = None
        try:
            while task := self.todo.take():
                outcome, worker = self._outcome(task, worker)
                if outcome is not None:
                    self._outcomes.put(outcome)
        except Exception as error:  # no process can be started, say: for the main thread
            self._outcomes.put(error)
        finally:
            self._dismiss(worker)

    def _outcome(self, task: Task, worker: Worker | None) -> tuple[Outcome | None, Worker | None]:
        """What came of a task, and the worker for the next one.

        No outcome yet if another process is at it, or none for now if we stop.
        """
        notes = []
        for _ in range(2):
            worker = worker or self._hire()
            answer = worker.ask({**task.request, "folder": str(self.folder), "seconds": None})
            if answer is not None:
                notes += answer["notes"]
                if answer["state"] == "taken":
                    self.todo.put_back(task)
                    return None, worker
                return Outcome(task.config, answer.get("error"), notes), worker
            how, worker = self._dismiss(worker), None
            if self.todo.closed:
                return None, None
            notes.append(f"its worker died ({how}); another one went on")
        error = f"its worker died twice ({how}). If memory has run out, use fewer workers."
        return Outcome(task.config, error, notes[:-2]), None

    def _hire(self) -> Worker:
        worker = Worker()
        self._workers.add(worker)
        return worker

    def _dismiss(self, worker: Worker | None) -> str | None:
        if worker is None:
            return None
        try:
            return worker.end()
        finally:
            self._workers.discard(worker)
