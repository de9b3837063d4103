"""A worker process: it searches what its parent asks for, and never outlives it.

Nothing here imports torch at the top: the pipe must be watched before anything slow begins.
Requests come on standard input and answers go to standard output, each as one line of JSON.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from nascore.errors import Interrupted, RecordError, in_one_line

if TYPE_CHECKING:
    from nascore.runs.config import SearchConfig
    from nascore.sweeps.store import RunStore

GRACE = 1.0  # seconds to write a checkpoint in, once the parent is gone
STOP = b"stop\n"  # instead of a request: write a checkpoint after this step, and end

is_worker = False  # whether this process is one


def main() -> None:
    """Answers requests until the parent closes the pipe, dies or says STOP."""
    global is_worker
    is_worker = True
    requests, answers = _take_over_pipes()
    inbox: SimpleQueue[bytes | None] = SimpleQueue()
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        inbox.put(None)

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_watch, args=(requests, inbox, end), daemon=True).start()
    for line in iter(inbox.get, None):
        answer = _answer(json.loads(line), stop.is_set)
        if stop.is_set() and answer["state"] != "done":
            break
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    sys.exit(128 + signal.SIGTERM if stop.is_set() else 0)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for our own use. What is printed goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _watch(requests: Iterable[bytes], inbox: SimpleQueue, end: Callable[[], None]) -> None:
    """Hands on requests; at the end of the pipe, ends the process, gently or not."""
    for line in requests:
        if line == STOP:
            end()
        else:
            inbox.put(line)
    end()
    time.sleep(GRACE)
    os._exit(128 + signal.SIGKILL)


def _answer(request: dict[str, Any], stop: Callable[[], bool]) -> dict[str, Any]:
    """What came of a request: its state is done, taken, unfinished or failed.

    Arguments:
        request: config, its fields; hash, that they must have; folder, of the store; known, see
            ``attempt``; seconds, after which the search stops with its checkpoint, or None.
    """
    try:
        from nascore.runs.config import SearchConfig
        from nascore.sweeps.store import RunStore

        config = SearchConfig(**request["config"])
        if config.hash != request["hash"]:
            names = ", ".join(config.plug_ins) or "nascore"
            raise RecordError(f"the source of {names} is another one here than where sweep runs.")
        store = RunStore(request["folder"])
        if request["seconds"] is not None:
            stop = _stop_after(request["seconds"], stop)
        return attempt(config, store, request["known"], stop)
    except Interrupted:
        return {"state": "unfinished", "notes": []}
    except Exception as error:
        return {"state": "failed", "error": in_one_line(error), "notes": []}


def _stop_after(seconds: float, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Says when to stop, or that so many seconds have passed since it was first asked."""
    end = None

    def asked() -> bool:
        nonlocal end
        end = end or time.monotonic() + seconds
        return stop() or time.monotonic() > end

    return asked


def attempt(
    config: "SearchConfig", store: "RunStore", known: int | None, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Searches with one thread, unless another process is at it or has done it by now.

    Arguments:
        known: when a record was written that does not count; None if any record counts.
        stop: is asked after every step.

    Returns the state, taken or done, and notes for the user. Raises what the search raises.
    """
    from nascore.runs.loop import search

    checkpoint, notes = store.checkpoint(config), []
    with store.claim(config) as ours:
        if not ours:
            return {"state": "taken", "notes": []}
        while store.written(config) == known:
            try:
                run = search(config, progress=False, checkpoint=checkpoint, threads=1, stop=stop)
                store.put(run)
                break
            except RecordError as error:
                if not checkpoint.exists():
                    raise
                checkpoint.unlink()
                notes.append(f"{checkpoint.name} is deleted, and its search began anew: {error}")
    return {"state": "done", "notes": notes}
