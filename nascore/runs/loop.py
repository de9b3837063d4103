"""The search loop: theta and alpha, on one level or on two."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from nascore.engine.cost import CostStatistics, OutcomeStatistics, OutputCostStatistics, pull_back
from nascore.engine.cpu.memory import keep_freed_memory
from nascore.engine.frameworks import Framework, build_framework, log_probability
from nascore.engine.random import stream, stream_seed
from nascore.engine.supernet import Supernet
from nascore.engine.unrolled import Unrolled
from nascore.errors import ConfigError, RecordError
from nascore.runs.config import SearchConfig
from nascore.runs.data import SPLITS, load_splits
from nascore.runs.datasets import DATASETS
from nascore.runs.history import History
from nascore.runs.provenance import provenance
from nascore.runs.run import Run

SECONDS_BETWEEN_CHECKPOINTS = 20
_GLOBAL_RANDOMNESS = Lock()  # torch initialises modules from it; searches may share a process


def search(
    config: SearchConfig, *, progress: bool = True, checkpoint: str | Path | None = None
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
    """
    with _kernels(config.deterministic):
        searcher = Searcher(config)
        if searcher.device.type == "cpu":
            keep_freed_memory()
        if checkpoint is not None and Path(checkpoint).exists():
            searcher.load(checkpoint)
        return searcher.finish(progress, checkpoint)


class Searcher:
    """A search in progress: data, supernet, alpha, both optimisers, history.

    Everything random comes from streams of the config's seed, one for each purpose, and theta and
    alpha are initialised on the CPU: every device starts from the same numbers.
    """

    def __init__(self, config: SearchConfig):
        self.config = config
        self.space = config.space
        self.device = _device(config.device)
        self.framework = self._framework(epoch=0)
        if config.level == "single":
            self.alpha_split, self.learning_splits = "train", ("train",)
        else:
            self.alpha_split, self.learning_splits = "search", ("search", "train")
            if config.freeze_theta:
                self.learning_splits = ("search",)
        self.steps = config.sizes["train"] // config.batch_size  # in an epoch
        self.splits = load_splits(
            config.dataset,
            config.sizes,
            seed=config.seed,
            device=self.device,
            image_size=config.image_size,
            label_noise=config.label_noise,
        )
        self.streams = {
            purpose: stream(config.seed, purpose, self.device)
            for purpose in ("train", "search", "mask", "watch")
        }
        with _GLOBAL_RANDOMNESS, torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(config.seed, "theta"))
            supernet = Supernet(
                self.space,
                DATASETS[config.dataset].classes,
                DATASETS[config.dataset].channels,
                config.cells,
                config.channels,
                config.norm,
                config.recompute,
            )
        last = self.device.type == "cpu" if config.channels_last is None else config.channels_last
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.supernet = supernet.to(self.device, memory_format=self.layout)
        if config.compile:
            for cell in self.supernet.cells:
                cell.compile()
        noise = torch.randn(
            len(self.space.edges),
            len(self.space.operations),
            generator=stream(config.seed, "alpha"),
        )
        alpha = config.alpha_mean + config.alpha_std * noise
        if config.freeze_alpha:
            alpha.zero_()  # uniform masks
        self.alpha = alpha.to(self.device).requires_grad_()
        self.theta = list(self.supernet.parameters())
        self.theta_optimiser = torch.optim.SGD(
            self.theta, config.lr, config.momentum, weight_decay=config.weight_decay
        )
        self.alpha_optimiser = torch.optim.Adam(
            [self.alpha], config.arch_lr, (0.5, 0.999), weight_decay=config.arch_weight_decay
        )
        self.history = History(self.space, epochs=config.epochs, cells=config.cells)
        self.epochs_done = -1  # epoch 0, before training, is still to be measured
        self.seconds = 0.0

    def _framework(self, epoch: int) -> Framework:
        config = self.config
        return build_framework(config.framework, self.space, config.temperature_at(epoch))

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        split: str,
        learn: bool = True,
        ahead: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """One step on a batch of a split.

        Theta learns on the training set, alpha on its own split, where the cost is measured too.
        Without ``learn``, statistics are all that comes of it.

        Arguments:
            ahead: the batch that theta learns from next; needed by the second order, whose
                statistics of the search set are those after this virtual step.
        """
        config = self.config
        alpha_sees = split == self.alpha_split
        learn_theta = learn and split == "train" and not config.freeze_theta
        learn_alpha = learn and alpha_sees and not config.freeze_alpha

        images = images.contiguous(memory_format=self.layout)
        mask = self.framework.draw(self.alpha, self.streams["mask" if learn else "watch"])
        if learn_alpha and config.order == 2:
            unrolled = Unrolled(self.supernet, self.theta_optimiser)
            cost, logits = unrolled.cost(mask, (images, labels), ahead)
        else:
            with self.precision():
                logits = self.supernet(images, mask, track=alpha_sees)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels)
            if learn_theta:
                loss.backward()
            elif alpha_sees:
                loss.backward(inputs=[mask.per_cell, mask.per_output])
            cost = mask.cost() if alpha_sees else None  # (cells, edges, operations)
        self.outcomes[split].update(logits, labels)
        if alpha_sees:
            self.costs.update(cost, mask.seen(self.space))
            self.output_costs.update(mask.output_cost(), len(labels))
        if learn_theta:
            if config.grad_clip is not None:
                clip_grad_norm_(self.theta, config.grad_clip)
            self.theta_optimiser.step()
            self.theta_optimiser.zero_grad()
        if learn_alpha:
            cost = cost.sum(dim=0)  # (edges, operations)
            if config.cost_clamp is not None:
                cost = cost.clamp(-config.cost_clamp, config.cost_clamp)
            self.alpha.grad = pull_back(mask.score, cost, self.alpha)
            if config.arch_grad_clip is not None:
                clip_grad_norm_([self.alpha], config.arch_grad_clip)
            self.alpha_optimiser.step()

    def precision(self) -> AbstractContextManager:
        """While open, torch chooses the precision by itself if the config asks for that."""
        if not self.config.amp:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def run_epoch(self, epoch: int, tick: Callable[[], object] = lambda: None) -> None:
        """One pass over the training set; then every split that nothing learned from is watched.

        In epoch 0 nothing is learned: every split is watched.
        """
        start = time.perf_counter()
        self.start_statistics()
        learning = self.learning_splits if epoch > 0 else ()
        self.framework = self._framework(epoch)
        if learning:
            rate = self.config.learning_rate(epoch)
            for group in self.theta_optimiser.param_groups:
                group["lr"] = rate
            self.history.write(epoch, {"learning_rate": rate})
            batches = {split: self.batches(split) for split in learning}
            for _ in range(self.steps):
                drawn = {split: next(batches[split]) for split in learning}
                for split in learning:
                    self.step(*drawn[split], split, ahead=drawn.get("train"))
                tick()
        for split in SPLITS:
            if split not in learning and len(self.splits[split]):
                self._watch(split)
        self._write(epoch, time.perf_counter() - start)

    def start_statistics(self) -> None:
        """Empties what an epoch collects."""
        self.costs = CostStatistics(self.config.cells, *self.alpha.shape, self.device)
        self.output_costs = OutputCostStatistics(self.config.cells, self.device)
        self.outcomes = {split: OutcomeStatistics(self.device) for split in SPLITS}

    def batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches to learn from: images (B, channels, H, W) and labels (B,), without an end."""
        config = self.config
        return self.splits[split].batches(config.batch_size, self.streams[split], config.augment)

    def _watch(self, split: str) -> None:
        """Statistics of a whole split under drawn masks."""
        with torch.set_grad_enabled(split == self.alpha_split):
            for images, labels in self.splits[split].chunks(self.config.batch_size):
                self.step(images, labels, split, learn=False)

    def _write(self, epoch: int, seconds: float) -> None:
        """Moves the epoch's statistics to the host, once."""
        alpha = self.alpha.detach()
        probability = log_probability(alpha, self.space).exp()
        self.history.write(epoch, {"alpha": alpha, "probability": probability})
        self.history.write(epoch, self.costs.result())
        self.history.write(epoch, self.output_costs.result())
        for split, outcome in self.outcomes.items():
            self.history.write(epoch, outcome.result(), split)
        self.history.write(epoch, {"seconds": seconds})
        self.epochs_done = epoch
        self.seconds += seconds

    def finish(self, progress: bool = True, checkpoint: str | Path | None = None) -> Run:
        """Runs all epochs that are left, and returns the run."""
        config = self.config
        started, saved = datetime.now(UTC), time.monotonic()
        bar = tqdm(
            total=config.epochs * self.steps,
            initial=max(self.epochs_done, 0) * self.steps,
            disable=not progress,
            unit="step",
        )
        with bar:
            for epoch in range(self.epochs_done + 1, config.epochs + 1):
                bar.set_description(f"epoch {epoch}/{config.epochs}")
                self.run_epoch(epoch, bar.update)
                if progress:
                    bar.set_postfix_str(self._status(epoch))
                due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                due = due or epoch == config.epochs
                if checkpoint is not None and due:
                    self.save(checkpoint)
                    saved = time.monotonic()
        return Run(config, self.history.to_xarray(), provenance(self.device, started, self.seconds))

    def _status(self, epoch: int) -> str:
        """Loss, L - H and number of active edges after an epoch, on the split that alpha sees."""
        run = Run(self.config, self.history.to_xarray(), {})
        row = {"epoch": epoch, "split": self.alpha_split}
        loss, output_cost = float(run.mean_loss.sel(row)), float(run.output_cost.sel(row))
        active = float(run.active_edges.sel(epoch=epoch))
        edges = len(self.space.edges)
        return f"loss {loss:.3f}, L-H {output_cost:+.3f}, active edges {active:.0f}/{edges}"

    def save(self, checkpoint: str | Path) -> None:
        """Writes the whole state after an epoch, or nothing."""
        checkpoint = Path(checkpoint)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "config": json.dumps(self.config.changes, sort_keys=True),
            "epochs_done": self.epochs_done,
            "seconds": self.seconds,
            "supernet": self.supernet.state_dict(),
            "alpha": self.alpha.detach(),
            "theta_optimiser": self.theta_optimiser.state_dict(),
            "alpha_optimiser": self.alpha_optimiser.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "history": {name: torch.from_numpy(a) for name, a in self.history.arrays.items()},
        }
        with TemporaryDirectory(dir=checkpoint.parent) as folder:
            part = Path(folder) / checkpoint.name
            torch.save(state, part)
            os.replace(part, checkpoint)

    def load(self, checkpoint: str | Path) -> None:
        """Takes over the state in a checkpoint. Raises RecordError if it is unfit."""
        try:
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise RecordError(
                f"{checkpoint} is not a whole checkpoint ({error}). Delete it to start anew."
            ) from None
        if state["config"] != json.dumps(self.config.changes, sort_keys=True):
            raise RecordError(f"{checkpoint} belongs to another config. Delete it to start anew.")
        try:
            for name, saved in state["streams"].items():
                self.streams[name].set_state(saved.cpu())
        except RuntimeError as error:
            raise RecordError(
                f"{checkpoint} was made on another kind of device than {self.device} ({error}). "
                "Go on there, or delete it to start anew."
            ) from None
        self.epochs_done, self.seconds = state["epochs_done"], state["seconds"]
        self.supernet.load_state_dict(state["supernet"])
        self.alpha.data.copy_(state["alpha"])
        self.theta_optimiser.load_state_dict(state["theta_optimiser"])
        self.alpha_optimiser.load_state_dict(state["alpha_optimiser"])
        for name, array in state["history"].items():
            self.history.arrays[name][...] = array.cpu().numpy()


def _device(name: str) -> torch.device:
    """The device of a config; "auto" is the best one here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name!r} is not available here: {error}") from None
    return device


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
