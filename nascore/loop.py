"""The search loop: theta and alpha, on one level or on two."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from nascore.config import SearchConfig
from nascore.cost import CostStatistics, OutcomeStatistics, pull_back
from nascore.data import DATASETS, SPLITS, load_splits
from nascore.errors import ConfigError, RecordError
from nascore.frameworks import build_framework, log_probability
from nascore.records import History, Run, provenance
from nascore.streams import stream, stream_seed
from nascore.supernet import Supernet

SECONDS_BETWEEN_CHECKPOINTS = 20


def search(
    config: SearchConfig, *, progress: bool = True, checkpoint: str | Path | None = None
) -> Run:
    """Searches a wiring.

    Arguments:
        config: every setting.
        progress: show a progress bar.
        checkpoint: a file that keeps the state of the search while it runs. If it exists, the
            search goes on from there, bit for bit as if it had never stopped; at the end it is
            removed.

    Returns the run. Raises ConfigError, DataError or RecordError before any work starts.
    """
    with _kernels(config.deterministic):
        searcher = Searcher(config)
        if checkpoint is not None and Path(checkpoint).exists():
            searcher.load(checkpoint)
        run = searcher.finish(progress, checkpoint)
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)
    return run


class Searcher:
    """A search in progress: data, supernet, alpha, both optimisers, history.

    Everything random comes from streams of the config's seed, one for each purpose, and theta and
    alpha are initialised on the CPU: every device starts from the same numbers.
    """

    def __init__(self, config: SearchConfig):
        self.config = config
        self.space = config.space
        self.device = _device(config.device)
        self.framework = build_framework(config.framework, self.space, config.temperature)
        self.alpha_split = "train" if config.level == "single" else "search"
        self.splits = load_splits(
            config.dataset,
            config.sizes,
            config.seed,
            self.device,
            config.image_size,
            config.label_noise,
        )
        self.streams = {
            purpose: stream(config.seed, purpose, self.device)
            for purpose in ("train", "search", "mask", "watch")
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(config.seed, "theta"))
            supernet = Supernet(
                self.space,
                DATASETS[config.dataset].classes,
                DATASETS[config.dataset].channels,
                config.cells,
                config.channels,
                config.norm,
            )
        self.supernet = supernet.to(self.device, memory_format=torch.channels_last)
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
        self.history = History(config)
        self.epochs_done = -1  # epoch 0, before training, is still to be measured
        self.seconds = 0.0

    def step(self, images: Tensor, labels: Tensor, split: str) -> None:
        """One step on a batch of a split: theta learns on train, alpha on its own split."""
        config = self.config
        learn_theta = split == "train" and not config.freeze_theta
        learn_alpha = split == self.alpha_split and not config.freeze_alpha
        cost = self._backward(images, labels, split, "mask", learn_theta)
        if learn_theta:
            if config.grad_clip is not None:
                clip_grad_norm_(self.theta, config.grad_clip)
            self.theta_optimiser.step()
            self.theta_optimiser.zero_grad()
        if learn_alpha:
            self.alpha.grad = cost
            if config.arch_grad_clip is not None:
                clip_grad_norm_([self.alpha], config.arch_grad_clip)
            self.alpha_optimiser.step()

    def _backward(
        self, images: Tensor, labels: Tensor, split: str, masks: str, theta: bool
    ) -> Tensor | None:
        """Forward and backward pass under one mask; all statistics of the batch.

        Returns the gradient on alpha, (edges, operations), if alpha sees this split.
        """
        track = split == self.alpha_split
        mask = self.framework.draw(self.alpha, self.streams[masks])
        logits = self.supernet(images, mask, track)
        loss = F.cross_entropy(logits, labels)
        if theta:
            loss.backward()
        elif track:
            loss.backward(inputs=[mask.per_cell])
        self.outcomes[split].update(logits, labels)
        if not track:
            return None
        cost = mask.cost()
        self.costs.update(cost, mask.weight)
        cost = cost.sum(dim=0)  # (edges, operations)
        if self.config.cost_clamp is not None:
            cost = cost.clamp(-self.config.cost_clamp, self.config.cost_clamp)
        return pull_back(mask.score, cost, self.alpha)

    def _start_statistics(self) -> None:
        shape = (self.config.cells, *self.alpha.shape)
        self.costs = CostStatistics(*shape, self.device)
        self.outcomes = {split: OutcomeStatistics(self.device) for split in SPLITS}

    def _watch(self, split: str) -> None:
        """Statistics of a whole split under drawn masks, with nothing learned."""
        track = split == self.alpha_split
        with torch.set_grad_enabled(track):
            for images, labels in self.splits[split].chunks(self.config.batch_size):
                self._backward(images, labels, split, "watch", theta=False)

    def train_epoch(self, epoch: int, tick=lambda: None) -> None:
        """One pass over the training set; every other split is watched after it.

        In epoch 0 nothing is learned: every split is watched.
        """
        config = self.config
        start = time.perf_counter()
        self._start_statistics()
        stepped = set()
        if epoch > 0:
            rate = config.learning_rate(epoch)
            for group in self.theta_optimiser.param_groups:
                group["lr"] = rate
            self.history.write(epoch, {"learning_rate": rate})
            train = self._batches("train")
            held_out = self._batches("search") if config.level == "bi" else None
            if held_out is not None:
                stepped.add("search")
            if config.level == "single" or not config.freeze_theta:
                stepped.add("train")
            for images, labels in train:
                if held_out is not None:
                    self.step(*next(held_out), "search")
                if "train" in stepped:
                    self.step(images, labels, "train")
                tick()
        for split in SPLITS:
            if split not in stepped and len(self.splits[split]):
                self._watch(split)
        self._write(epoch, time.perf_counter() - start)

    def _batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self.splits[split].batches if split == "train" else self.splits[split].endless
        return batches(self.config.batch_size, self.streams[split], self.config.augment)

    def _write(self, epoch: int, seconds: float) -> None:
        """Moves the epoch's statistics to the host, once."""
        alpha = self.alpha.detach()
        probability = log_probability(alpha, self.space).exp()
        self.history.write(epoch, {"alpha": alpha, "probability": probability})
        self.history.write(epoch, self.costs.result())
        for split, outcome in self.outcomes.items():
            self.history.write(epoch, outcome.result(), split)
        self.history.write(epoch, {"seconds": seconds})
        self.epochs_done = epoch
        self.seconds += seconds

    def finish(self, progress: bool = True, checkpoint: str | Path | None = None) -> Run:
        """Runs all epochs that are left, and returns the run."""
        config = self.config
        steps = config.sizes["train"] // config.batch_size
        started, saved = datetime.now(UTC), time.monotonic()
        bar = tqdm(
            total=config.epochs * steps,
            initial=max(self.epochs_done, 0) * steps,
            disable=not progress,
            unit="step",
        )
        with bar:
            for epoch in range(self.epochs_done + 1, config.epochs + 1):
                bar.set_description(f"epoch {epoch}/{config.epochs}")
                self.train_epoch(epoch, bar.update)
                if progress:
                    bar.set_postfix_str(self._status(epoch))
                due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
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
        part = checkpoint.with_name(checkpoint.name + ".part")
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
        self.epochs_done, self.seconds = state["epochs_done"], state["seconds"]
        self.supernet.load_state_dict(state["supernet"])
        self.alpha.data.copy_(state["alpha"])
        self.theta_optimiser.load_state_dict(state["theta_optimiser"])
        self.alpha_optimiser.load_state_dict(state["alpha_optimiser"])
        for name, saved in state["streams"].items():
            self.streams[name].set_state(saved.cpu())
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
