"""The search loop: theta and alpha, on one level or on two."""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import torch
from tqdm import tqdm

from nascore.engine.cpu.memory import keep_freed_memory
from nascore.errors import Interrupted
from nascore.runs import checkpoint as checkpoints
from nascore.runs.config import SearchConfig
from nascore.runs.data import SPLITS
from nascore.runs.history import History
from nascore.runs.interruption import stop_on_signals
from nascore.runs.provenance import provenance
from nascore.runs.run import Run
from nascore.runs.setup import set_up
from nascore.runs.statistics import EpochStatistics

SECONDS_BETWEEN_CHECKPOINTS = 20
_MODULES = ("supernet", "theta_optimiser", "alpha_optimiser")  # that torch saves and loads


def search(
    config: SearchConfig,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    threads: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Searches a wiring.

    Arguments:
        config: every setting.
        progress: show a progress bar.
        checkpoint: a file that keeps the state of the search. If it exists, the search goes on
            from there, bit for bit as if it had never stopped. It stays after the end, until the
            run is saved elsewhere: a RunStore removes it then.

    On a CPU, the process keeps the memory that the search has freed.

    Returns the run. Raises ConfigError, DataError or RecordError before any work starts.

    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    >>> search(config, progress=False).wiring.active_edges
    ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    """
    with _kernels(config.deterministic), _threads(threads):
        searcher = Searcher(config)
        if searcher.setup.device.type == "cpu":
            keep_freed_memory()
        if checkpoint is not None and Path(checkpoint).exists():
            searcher.load(checkpoint)
        started = datetime.now(UTC)
        with stop_on_signals() if stop is None else nullcontext(stop) as asked:
            searcher.finish(progress, checkpoint, asked)
        made = provenance(searcher.setup.device, started, searcher.seconds)
        return Run(config, searcher.history.to_xarray(), made)


class Searcher:
    """A search in progress.

    Arguments:
        config: every setting.
    """

    def __init__(self, config: SearchConfig):
        self.setup = set_up(config)
        self.framework = self.setup.framework  # before any schedule
        space, extra = self.setup.space, self.framework.recorded
        self.history = History(space, epochs=config.epochs, cells=config.cells, extra=extra)
        self.address = config.address  # that a checkpoint must be of
        self.rates = [config.learning_rate(n) for n in range(1, config.epochs + 1)]  # of theta
        self.epochs_done = -1  # epoch 0, before training, is still to be measured
        self.seconds = 0.0

    def run_epoch(self, epoch: int, tick=lambda: None) -> None:
        """One pass over the training set; then every split that nothing learned from is watched.

        In epoch 0 nothing is learned: every split is watched.

        Arguments:
            tick: is called after every step.
        """
        start, setup, learner = time.perf_counter(), self.setup, self.setup.learner
        statistics = EpochStatistics(setup.space, len(setup.supernet.cells), setup.device)
        learning = setup.learning_splits if epoch > 0 else {}
        if learning:
            self._set_schedules(epoch)
            batches = {split: setup.batches(split) for split in learning}
            for _ in range(setup.steps):
                drawn = {split: next(batches[split]) for split in learning}
                for split, what in learning.items():
                    batch, ahead = drawn[split], drawn.get("train")
                    seen = learner.step(batch, setup.streams["mask"], ahead=ahead, **what)
                    statistics.update(split, seen, batch[1])
                tick()
        for split in SPLITS:
            if split not in learning and len(setup.splits[split]):
                for batch in setup.chunks(split):
                    sees = split == setup.alpha_split
                    seen = learner.step(batch, setup.streams["watch"], measure=sees)
                    statistics.update(split, seen, batch[1])
        statistics.write(self.history, epoch)
        seconds = time.perf_counter() - start
        self.history.write(epoch, {**learner.recorded(), "seconds": seconds})
        self.epochs_done = epoch
        self.seconds += seconds

    def _set_schedules(self, epoch: int) -> None:
        """Theta's learning rate and the framework's schedule, for an epoch from 1 on."""
        learner, last = self.setup.learner, len(self.rates) - 1
        (group,) = learner.theta_optimiser.param_groups
        group["lr"] = self.rates[epoch - 1]
        self.history.write(epoch, {"learning_rate": group["lr"]})
        learner.framework = self.framework.at((epoch - 1) / last if last else 1.0)

    def finish(self, progress: bool = True, checkpoint=None, stop=lambda: False) -> None:
        """Runs all epochs that are left."""
        epochs, steps, saved = len(self.rates), self.setup.steps, time.monotonic()
        done = max(self.epochs_done, 0) * steps
        with tqdm(total=epochs * steps, initial=done, disable=not progress, unit="step") as bar:
            for epoch in range(self.epochs_done + 1, epochs + 1):
                bar.set_description(f"epoch {epoch}/{epochs}")
                self.run_epoch(epoch, bar.update)
                if progress:
                    loss, cost, active = self.history.latest(epoch, self.setup.alpha_split)
                    edges = f"active edges {active:.0f}/{len(self.setup.space.edges)}"
                    bar.set_postfix_str(f"loss {loss:.3f}, L-H {cost:+.3f}, {edges}")
                due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                if checkpoint is not None and (due or epoch == epochs or stop()):
                    self.save(checkpoint)
                    saved = time.monotonic()
                if stop():
                    raise Interrupted("interrupted", getattr(stop, "first", None) or 2)

    def save(self, checkpoint: str | Path) -> None:
        """Writes the whole state after an epoch, or nothing."""
        learner = self.setup.learner
        state = {name: getattr(learner, name).state_dict() for name in _MODULES}
        state |= {
            "address": self.address,
            "epochs_done": self.epochs_done,
            "seconds": self.seconds,
            "architecture": {name: p.detach() for name, p in learner.architecture.items()},
            "state": learner.state,
            "streams": {name: stream.get_state() for name, stream in self.setup.streams.items()},
            "history": {name: torch.from_numpy(a) for name, a in self.history.arrays.items()},
        }
        checkpoints.save(checkpoint, state)

    def load(self, checkpoint: str | Path) -> None:
        """Takes over the state in a checkpoint. Raises RecordError if it is unfit."""
        learner = self.setup.learner
        state = checkpoints.load(checkpoint, self.setup.device, self.address)
        checkpoints.set_streams(self.setup.streams, state["streams"])
        self.epochs_done, self.seconds = state["epochs_done"], state["seconds"]
        learner.state = state["state"]
        for name in _MODULES:
            getattr(learner, name).load_state_dict(state[name])
        for name, saved in state["architecture"].items():
            learner.architecture[name].data.copy_(saved)
        for name, saved in state["history"].items():
            self.history.arrays[name][...] = saved.cpu()


@contextmanager
def _threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _kernels(deterministic: bool):
    """Deterministic kernels while a search runs, and the caller's setting after it."""
    before = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
