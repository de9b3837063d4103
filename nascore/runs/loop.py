"""The search loop: theta and alpha, on one level or on two."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nascore.errors import ConfigError, Interrupted, RecordError, checked
from nascore.fast.memory import keep_freed_memory
from nascore.runs import checkpoint as checkpoints
from nascore.runs.config import SearchConfig
from nascore.runs.data import SPLITS
from nascore.runs.history import History
from nascore.runs.interruption import stop_on_signals
from nascore.runs.provenance import maker, part, provenance
from nascore.runs.resources import enough
from nascore.runs.run import Run
from nascore.runs.setup import set_up
from nascore.runs.statistics import EpochStatistics

SECONDS_BETWEEN_CHECKPOINTS = 20
LEARNED = ("supernet", "architecture", "theta_optimiser", "alpha_optimiser", "statistics")
"""Parts of a state that are finite as long as a search has not diverged."""


@checked
def search(
    config: SearchConfig,
    *,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    threads: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Searches a wiring.

    A search that meets a NaN ends there, and its record stays NaN from that epoch on.

    Arguments:
        config: every setting.
        progress: show a progress bar.
        checkpoint: a file that keeps the state of the search. If it exists, the search goes on
            from there, bit for bit as if it had never stopped. It stays after the end, until the
            run is saved elsewhere: a RunStore removes it then.
        threads: of torch on a CPU, whose number is seen in the last bits. None takes those that
            the checkpoint was made with, or else what torch has now.
        stop: is asked after every step; the search stops once it says True. None listens to Ctrl-C
            and SIGTERM.

    On a CPU, the process keeps the memory that the search has freed.

    Returns the run. Raises ConfigError, DataError or RecordError before any work starts,
    MemoryError if memory runs out all the same, and Interrupted if it is told to stop: then the
    checkpoint holds what was done so far.

    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32, epochs=1)
    >>> search(config, progress=False).wiring.active_edges
    ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    """
    with _kernels(config.deterministic), _threads(threads), enough(config, checkpoint):
        searcher = Searcher(config)
        if searcher.setup.device.type == "cpu":
            keep_freed_memory()
        if checkpoint is not None and Path(checkpoint).exists():
            searcher.load(checkpoint, threads)
        with stop_on_signals() if stop is None else nullcontext(stop) as asked:
            searcher.finish(progress, checkpoint, asked)
        return Run(config, searcher.history.to_xarray(), searcher.provenance())


class Searcher:
    """A search in progress.

    Arguments:
        config: every setting.
    """

    def __init__(self, config: SearchConfig):
        self.setup = set_up(config)
        self.framework = self.setup.framework  # before any schedule
        space, cells, device = self.setup.space, config.cells, self.setup.device
        self.history = History(
            space, epochs=config.epochs, cells=cells, extra=self.framework.recorded
        )
        self.address = config.address  # that a checkpoint must be of
        self.rates = [config.learning_rate(n) for n in range(1, config.epochs + 1)]  # of theta
        self.epochs_done = -1  # epoch 0, before training, is still to be measured
        self.steps_done = 0  # of the epoch that follows
        self.batches = {split: self.setup.batches(split) for split in self.setup.learning_splits}
        self.statistics = EpochStatistics(space, cells, device)
        self.seconds = 0.0  # of the epochs that are done
        self.parts = []  # of its provenance, made by other processes
        self.started, self.clock = datetime.now(UTC), time.perf_counter()
        self.epoch_clock = self.clock

    def run_epoch(self, epoch: int, tick: Callable[[], None] = lambda: None) -> None:
        """One pass over the training set; then every split that nothing learned from is watched.

        In epoch 0 nothing is learned: every split is watched.

        Arguments:
            tick: is called after every step, where the search may be saved and left.
        """
        setup, learner = self.setup, self.setup.learner
        learning = setup.learning_splits if epoch > 0 else {}
        if learning:
            self._set_schedules(epoch)
            while self.steps_done < setup.steps:
                drawn = {split: next(self.batches[split]) for split in learning}
                for split, what in learning.items():
                    batch, ahead = drawn[split], drawn.get("train")
                    seen = learner.step(batch, setup.streams["mask"], ahead=ahead, **what)
                    self.statistics.update(split, seen, batch[1])
                self.steps_done += 1
                tick()
        for split in SPLITS:
            if split not in learning and len(setup.splits[split]):
                for batch in setup.chunks(split):
                    sees = split == setup.alpha_split
                    seen = learner.step(batch, setup.streams["watch"], measure=sees)
                    self.statistics.update(split, seen, batch[1])
        self.statistics.write(self.history, epoch)
        now = time.perf_counter()
        seconds, self.epoch_clock = now - self.epoch_clock, now
        self.history.write(epoch, {**learner.recorded(), "seconds": seconds})
        self.epochs_done, self.steps_done = epoch, 0
        self.seconds += seconds
        self.statistics.clear()
        for batches in self.batches.values():
            batches.start_epoch()

    def _set_schedules(self, epoch: int) -> None:
        """Theta's learning rate and the framework's schedule, for an epoch from 1 on."""
        learner, last = self.setup.learner, len(self.rates) - 1
        (group,) = learner.theta_optimiser.param_groups
        group["lr"] = self.rates[epoch - 1]
        self.history.write(epoch, {"learning_rate": group["lr"]})
        learner.framework = self.framework.at((epoch - 1) / last if last else 1.0)

    def finish(
        self,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Runs all epochs that are left, unless it is told to stop or meets a NaN.

        Arguments: see ``search``. Raises Interrupted.
        """
        epochs, steps, saved = len(self.rates), self.setup.steps, time.monotonic()
        done = max(self.epochs_done, 0) * steps + self.steps_done
        bar = tqdm(total=epochs * steps, initial=done, disable=not progress, unit="step")

        def save_or_stop(last: bool = False) -> None:
            nonlocal saved
            due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
            asked = stop()
            if checkpoint is not None and (due or asked or last):
                self.save(checkpoint)
                saved = time.monotonic()
            if asked:
                raise Interrupted(self._where(checkpoint), getattr(stop, "first", signal.SIGINT))

        def tick() -> None:
            bar.update()
            save_or_stop()

        with bar:
            for epoch in range(self.epochs_done + 1, epochs + 1):
                bar.set_description(f"epoch {epoch}/{epochs}")
                self.run_epoch(epoch, tick)
                loss, cost, active = self.history.latest(epoch, self.setup.alpha_split)
                edges = f"active edges {active:.0f}/{len(self.setup.space.edges)}"
                bar.set_postfix_str(f"loss {loss:.3f}, L-H {cost:+.3f}, {edges}")
                if math.isnan(loss + active):
                    return
                save_or_stop(last=epoch == epochs)

    def _where(self, checkpoint: str | Path | None) -> str:
        """What a search says that was told to stop."""
        where = f"stopped in epoch {self.epochs_done + 1} of {len(self.rates)}"
        if checkpoint is None:
            return f"{where}. No checkpoint was asked for: the search starts anew next time."
        return f"{where}. Search again to go on from {checkpoint}."

    def state(self) -> dict[str, Any]:
        """Everything that a search goes on from, as a checkpoint holds it."""
        learner = self.setup.learner
        return {
            "address": self.address,
            "maker": maker(self.setup.device),
            "parts": [*self.parts, self._part()],
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "epoch_seconds": time.perf_counter() - self.epoch_clock,
            "supernet": learner.supernet.state_dict(),
            "architecture": {name: p.detach() for name, p in learner.architecture.items()},
            "state": learner.state,
            "theta_optimiser": learner.theta_optimiser.state_dict(),
            "alpha_optimiser": learner.alpha_optimiser.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self.setup.streams.items()},
            "batches": {split: batches.left for split, batches in self.batches.items()},
            "statistics": self.statistics.state_dict(),
            "history": {name: torch.from_numpy(a) for name, a in self.history.arrays.items()},
        }

    def save(self, checkpoint: str | Path) -> None:
        """Writes the whole state, or nothing: also nothing if what is learned is not finite."""
        state = self.state()
        if checkpoints.not_finite({name: state[name] for name in LEARNED}) is None:
            checkpoints.save(checkpoint, state)

    def load(self, checkpoint: str | Path, threads: int | None = None) -> None:
        """Takes over the state in a checkpoint, and on a CPU its number of threads.

        Raises RecordError, and takes over nothing, if the file is damaged, of another config, made
        by other code, on another kind of device or with another number of threads than asked for.
        """
        state = checkpoints.load(checkpoint, self.setup.device)
        wrong = self._misfit(state, threads)
        if wrong is not None:
            raise RecordError(f"{checkpoint}: {wrong}. Delete it to start anew.")
        if self.setup.device.type == "cpu":
            torch.set_num_threads(state["maker"]["threads"])
        learner = self.setup.learner
        self.epochs_done, self.steps_done = state["epochs_done"], state["steps_done"]
        self.seconds, self.parts = state["seconds"], state["parts"]
        self.epoch_clock = time.perf_counter() - state["epoch_seconds"]
        learner.state = state["state"]
        for name in ("supernet", "theta_optimiser", "alpha_optimiser"):
            getattr(learner, name).load_state_dict(state[name])
        self.statistics.load_state_dict(state["statistics"])
        for name, saved in state["architecture"].items():
            learner.architecture[name].data.copy_(saved)
        for name, saved in state["streams"].items():
            self.setup.streams[name].set_state(saved.cpu())
        for split, saved in state["batches"].items():
            self.batches[split].left = saved
        for name, saved in state["history"].items():
            self.history.arrays[name][...] = saved.cpu()

    def _misfit(self, state: dict[str, Any], threads: int | None) -> str | None:
        """Why this search cannot go on from a state, in words; None if it can."""
        own, made = self.state(), state.get("maker", {})
        if state.get("address") != own["address"]:
            return "it belongs to another config"
        for what in ("code", "torch"):
            if made.get(what) != own["maker"][what]:
                here = f"{made.get(what)}, here {own['maker'][what]}"
                return f"it was made by other code ({what} {here})"
        kinds = [maker["device"].split()[0] for maker in (made, own["maker"])]
        if kinds[0] != kinds[1]:
            return f"it was made on another kind of device ({kinds[0]}, here {kinds[1]})"
        if kinds[0] == "cpu" and threads not in (None, made["threads"]):
            return f"it was made with {made['threads']} thread(s), and {threads} is asked for"
        free = ("maker", "parts", "batches", "theta_optimiser", "alpha_optimiser")
        wrong = checkpoints.misfit({**own, **{name: state.get(name) for name in free}}, state)
        if wrong is not None:
            return wrong
        epochs, steps, all_steps = state["epochs_done"], state["steps_done"], self.setup.steps
        if not (-1 <= epochs <= len(self.rates) and 0 <= steps <= all_steps):
            return f"it has done {epochs} epochs and {steps} steps, which cannot be"
        for split, left in state["batches"].items():
            if not (0 <= left).logical_and(left < len(self.setup.splits[split])).all():
                return f"its batches of the {split} split are not of this dataset"
        learning = self.setup.learning_splits.values()
        for name in ("theta", "alpha"):
            learns = any(what.get(name) for what in learning)
            taken = (max(epochs, 0) * all_steps + steps) * learns
            optimiser = getattr(self.setup.learner, f"{name}_optimiser")
            wrong = wrong or checkpoints.misfit_of_optimiser(
                optimiser, state[f"{name}_optimiser"], taken
            )
        return wrong or checkpoints.not_finite({name: state[name] for name in LEARNED})

    def _part(self) -> dict[str, Any]:
        """The provenance of what this process has done so far."""
        total = self.seconds + time.perf_counter() - self.epoch_clock
        before = sum(part["wall_seconds"] for part in self.parts)
        return part(self.setup.device, self.started, total - before)

    def provenance(self) -> dict[str, Any]:
        """How the search was made so far."""
        return provenance([*self.parts, self._part()], self.setup.device)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many threads of torch, None for as many as there are; afterwards the caller's again."""
    before = torch.get_num_threads()
    if number is not None:
        if number < 1:
            raise ConfigError(f"threads={number}: give at least 1.")
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _kernels(deterministic: bool) -> Iterator[None]:
    """Deterministic kernels while a search runs, if asked for, and the caller's setting after."""
    before = torch.are_deterministic_algorithms_enabled()
    if not deterministic or before:  # to set it takes torch a second
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
