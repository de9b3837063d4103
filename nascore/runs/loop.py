"""Searching: epoch after epoch, with a progress bar, checkpoints and a good end."""

import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch.utils import deterministic

from nascore.engine.space import Wiring
from nascore.errors import ConfigError, Interrupted, checked
from nascore.fast.memory import keep_freed_memory
from nascore.runs import checkpoint as checkpoints
from nascore.runs.algorithm import Search, find_device
from nascore.runs.config import SearchConfig
from nascore.runs.gradients import CHECKED, check_gradients
from nascore.runs.interruption import stop_on_signals
from nascore.runs.progress import open_bar
from nascore.runs.provenance import Maker
from nascore.runs.randomness import own_global_randomness
from nascore.runs.rehearsal import rehearse
from nascore.runs.run import Run

SECONDS_BETWEEN_CHECKPOINTS = 20
SECONDS_BETWEEN_REPORTS = 0.5
OUT_OF_MEMORY = re.compile("out of memory|allocate memory", re.IGNORECASE)


@checked
def search(
    config: SearchConfig,
    *,
    progress: bool | Callable[[int, str], None] = True,
    checkpoint: str | Path | None = None,
    threads: int | None = None,
    stop: Callable[[], bool] | None = None,
    watch: Callable[[Run], None] | None = None,
) -> Run:
    """Searches a wiring.

    A search that meets a NaN ends there, and its record is NaN after that epoch. One that its
    config ends early, by ``stop_at_skips`` or ``stop_when_stable``, is whole: its last epoch is its
    record's last.

    Arguments:
        config: every setting.
        progress: show a progress bar; or a function that is told, twice a second at most, how many
            steps are done, and where the search is in words.
        checkpoint: a file that keeps the state of the search. If it exists, the search goes on
            from there, bit for bit as if it had never stopped. It stays after the end, with the
            trained weights, until the run is saved elsewhere: a RunStore removes it then.
        threads: of torch on a CPU; it changes floating-point rounding. None takes those that the
            checkpoint was made with, or else what torch has now.
        stop: is asked after every step, but not in a choice at the end; the search stops once it
            says True. None listens to Ctrl-C, SIGTERM and SIGHUP.
        watch: is given the run so far after every epoch, 0 included, such as to draw it.

    On a CPU, the process keeps the memory that the search has freed. Searches in threads of one
    process take turns, for they share the global random streams.

    Returns the run. Raises ConfigError, DataError or RecordError before any work starts,
    MemoryError if memory runs out, and Interrupted if it is told to stop: then the checkpoint holds
    what was done so far.

    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    >>> search(config, progress=False).wiring.active_edges
    ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads}: give at least 1.")
    with ExitStack() as contexts:
        contexts.enter_context(_torch_settings(threads, config))
        contexts.enter_context(_memory_errors(config))
        if ":" in config.framework:
            rehearse(config)
        one = Search(config)
        if one.device.type == "meta":
            raise ConfigError("device='meta' holds no numbers. Search on cpu, cuda or mps.")
        maker = Maker(one.device)
        if one.device.type == "cpu":
            keep_freed_memory()
        if checkpoint is not None and Path(checkpoint).exists():
            maker = Maker(one.device, checkpoints.load(checkpoint, one, threads))
        contexts.enter_context(own_global_randomness())
        if one.device.type in CHECKED and one.epochs_done < 0:
            check_gradients(one)
        stop = stop or contexts.enter_context(stop_on_signals())
        wiring = _finish(one, maker, progress, checkpoint, stop, watch)
        chosen = None if wiring is None else str(wiring)
        history = one.history.to_xarray()
        if one.ended:
            history = history.isel(epoch=slice(one.epochs_done + 1))
        return Run(config, history, maker.provenance(), chosen)


def _finish(
    one: Search,
    maker: Maker,
    progress: bool | Callable[[int, str], None],
    checkpoint: str | Path | None,
    stop: Callable[[], bool],
    watch: Callable[[Run], None] | None,
) -> Wiring | None:
    """Runs all epochs that are left. Raises Interrupted.

    Returns the wiring that the framework chooses, None if it chooses none or the search diverged.
    """
    epochs, saved, reported = one.config.epochs, time.monotonic(), 0.0
    done, where = max(one.epochs_done, 0) * one.steps + one.steps_done, ""
    off = progress is not True
    bar = open_bar(total=epochs * one.steps, initial=done, disable=off, unit="step")

    def save_or_stop() -> None:
        nonlocal saved
        asked = stop()
        due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
        if checkpoint is not None and (due or asked):
            checkpoints.save(checkpoint, one, maker)
            saved = time.monotonic()
        if asked:
            advice = f"Search again to go on from {checkpoint}."
            if checkpoint is None:
                advice = "No checkpoint was asked for: the search starts anew next time."
            message = f"stopped after {max(one.epochs_done, 0)} of {epochs} epochs. {advice}"
            raise Interrupted(message, getattr(stop, "first", signal.SIGINT))

    def tick() -> None:
        nonlocal done, reported
        done += 1
        bar.update()
        if callable(progress) and time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            progress(done, f"epoch {one.epochs_done + 1}/{epochs}, {where}".rstrip(", "))
            reported = time.monotonic()
        save_or_stop()

    with bar:
        while not one.ended:
            epoch = one.epochs_done + 1
            bar.set_description(f"epoch {epoch}/{epochs}")
            one.epoch(tick)
            so_far = one.history.to_xarray().isel(epoch=slice(epoch + 1))
            if watch is not None:
                watch(Run(one.config, so_far, {}))
            history = so_far.sel(epoch=epoch, split=one.alpha_split)
            now = Run(one.config, history, {})  # of this epoch and this split alone
            loss, active = now.mean_loss.item(), now.active_edges.item()
            edges = f"active edges {active:.0f}/{len(one.space.edges)}"
            where = f"loss {loss:.3f}, L-H {now.output_cost.item():+.3f}, {edges}"
            bar.set_postfix_str(where)
            if math.isnan(loss + active):
                return None
            save_or_stop()
        if checkpoint is not None:
            checkpoints.save(checkpoint, one, maker)
        return one.choose()


@contextmanager
def _memory_errors(config: SearchConfig) -> Iterator[None]:
    """Names memory that runs out, on any device, in one line: a MemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        size = f"batch_size={config.batch_size}, channels={config.channels}, cells={config.cells}"
        advice = "Take recompute=True, a smaller batch_size, fewer channels or cells."
        raise MemoryError(f"memory ran out, with {size}. {advice}") from error


@contextmanager
def _torch_settings(threads: int | None, config: SearchConfig) -> Iterator[None]:
    """Threads, precision and deterministic kernels of torch; afterwards the caller's again.

    In float32, torch's convolutions on a GPU round to TF32 by default: costs would be off by 1e-3.
    """
    before, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    gpu, asked = find_device(config.device).type == "cuda", config.deterministic
    change = gpu if asked is None else asked
    change = change and not torch.are_deterministic_algorithms_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.set_num_threads(threads or before)
    torch.backends.cudnn.allow_tf32 = tf32 and config.amp
    if change:  # it takes torch a second
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=asked is None)
        deterministic.fill_uninitialized_memory = False  # most kernels of a step, for no bit
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.allow_tf32 = tf32
        if change:
            torch.use_deterministic_algorithms(False)
            deterministic.fill_uninitialized_memory = filled
