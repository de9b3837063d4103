"""Interruption: Ctrl-C, SIGTERM and SIGHUP ask a search to stop, and it stops between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """The first signal that has come, if one has. Called, it says whether one has."""

    first: int | None = None

    def __call__(self) -> bool:
        return self.first is not None

    def handle(self, signum: int, frame: object) -> None:
        if self.first is not None:  # asked twice: at once, wherever that is
            raise KeyboardInterrupt
        self.first = signum


@contextmanager
def stop_on_signals() -> Iterator[Signals]:
    """While open, a signal is kept and asks to stop; a second one raises KeyboardInterrupt.

    A signal that the process ignores stays ignored. Outside of the main thread, which alone
    receives signals, nothing ever asks.
    """
    signals = Signals()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:
                before[signum] = signal.signal(signum, signals.handle)
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
