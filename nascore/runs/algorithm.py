"""The search: what it starts from, one step, one epoch. The same lines for every framework."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from nascore.engine.cost import local_cost, pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.engine.space import Wiring
from nascore.engine.supernet import Supernet
from nascore.engine.unrolled import Batch, unrolled_cost
from nascore.errors import ConfigError, checked
from nascore.fast.compiled import compile_kinds
from nascore.frameworks.base import LEARNERS, Context
from nascore.runs.config import SearchConfig
from nascore.runs.dartsplus import ends_early
from nascore.runs.data import Batches, load_splits
from nascore.runs.datasets import DATASETS
from nascore.runs.history import SPLITS, History
from nascore.runs.randomness import own_global_randomness, seed_global_randomness
from nascore.runs.statistics import EpochStatistics, StepResult

# Purposes of random numbers: batches of two splits, masks to learn from and to watch, the choice.
STREAMS = ("train", "search", "mask", "watch", "choose")


class Search:
    """A search in progress: data, supernet, framework, what is learned, random streams.

    Everything random comes from streams of the config's seed, one for each purpose, and theta and
    alpha are initialised on the CPU: every device starts from the same numbers. Images, theta and
    alpha are of one dtype; float64 is for where small differences matter.

    Raises ConfigError or DataError.

    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32)
    >>> search = Search(config)
    >>> images, labels = search.batch()
    >>> search.alpha.shape, images.shape
    (torch.Size([5, 8]), torch.Size([32, 3, 8, 8]))
    >>> search.step((images, labels)).cost.shape
    torch.Size([1, 5, 8])
    """

    @checked
    def __init__(self, config: SearchConfig, dtype: torch.dtype = torch.float32):
        self.config, self.space = config, config.space
        self.device = device = find_device(config.device)
        self.framework = config.make_framework()
        last = device.type == "cpu" if config.channels_last is None else config.channels_last
        self.layout = torch.channels_last if last else torch.contiguous_format
        with own_global_randomness():
            seed_global_randomness(config.seed, "data")
            self.splits = load_splits(config, device, dtype, self.layout)
            seed_global_randomness(config.seed, "theta")
            self.supernet = self._supernet().to(device, dtype, memory_format=self.layout)
            learned = self._start()
        if config.compile and self.framework.dense:
            for cell in self.supernet.cells:
                cell.compile()
        elif config.compile:
            inputs = [module for cell in self.supernet.cells for module in cell.preprocess]
            compile_kinds([*inputs, *(module for _, module in self.supernet.operations())])
        self.theta = list(self.supernet.parameters())
        self.learned = {
            name: p.detach().to(device, dtype).requires_grad_() for name, p in learned.items()
        }
        self.state = {
            name: value.to(device, dtype if value.is_floating_point() else None)
            for name, value in self.framework.state(self.space).items()
        }
        self.theta_optimiser = torch.optim.SGD(
            self.theta, config.lr, config.momentum, weight_decay=config.weight_decay
        )
        self.alpha_optimiser = self.framework.optimiser(list(self.learned.values()), config)
        self.streams = {name: stream(config.seed, name, device) for name in STREAMS}
        self.batches = {}
        for split in dict.fromkeys([self.alpha_split, "train"]):
            anew = split == "search" and config.search_order == "anew"
            how = config.batch_size, self.streams[split], config.augment, anew
            self.batches[split] = Batches(self.splits[split], *how)
        self.statistics = EpochStatistics(self.space, config.cells, device)
        self.history = History(
            self.space, epochs=config.epochs, cells=config.cells, extra=self.framework.recorded
        )
        self.epochs_done = -1  # epoch 0, before training, is still to be measured
        self.steps_done = 0  # of the epoch that follows
        self._epoch_started = time.perf_counter()

    def _supernet(self) -> Supernet:
        dataset = DATASETS[self.config.dataset]
        names = ("cells", "channels", "norm", "stem_affine", "recompute")
        settings = {name: getattr(self.config, name) for name in names}
        settings |= self.framework.supernet_settings()
        return Supernet(self.space, dataset.classes, dataset.channels, **settings)

    def _start(self) -> dict[str, Tensor]:
        """What the framework learns, before it has learned anything."""
        config, generator = self.config, stream(self.config.seed, "alpha")
        shape = len(self.space.edges), len(self.space.operations)
        alpha = config.alpha_mean + config.alpha_std * torch.randn(shape, generator=generator)
        if config.freeze_alpha:
            alpha.zero_()  # uniform masks
        return self.framework.parameters(alpha, generator)

    @property
    def alpha(self) -> Tensor:
        """The architecture parameters alpha, (edges, operations), of a framework that has them."""
        return self.learned["alpha"]

    @property
    def alpha_split(self) -> str:
        """The split that alpha learns from, where the cost is measured."""
        return "train" if self.config.level == "single" else "search"

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.splits["train"]) // self.config.batch_size

    @property
    def ended(self) -> bool:
        """Whether the last epoch is over, or the config's rule has ended the search early."""
        skips, stable = self.config.stop_at_skips, self.config.stop_when_stable
        modules = self.supernet.operations()
        learnable = sorted({k for (*_, k), module in modules if [*module.parameters()]})
        if stable and not learnable:
            value = f"stop_when_stable={stable}"
            raise ConfigError(f"{value}: no operation has weights, so there is nothing to rank.")
        probability = self.history.arrays["probability"][: self.epochs_done + 1]
        early = ends_early(probability, self.space.operations, learnable, skips, stable)
        return early or self.epochs_done == self.config.epochs

    def batch(self, split: str = "train") -> Batch:
        """The next batch to learn from: images (B, channels, H, W) and labels (B,)."""
        return next(self.batches[split])

    def chunks(self, split: str) -> list[Batch]:
        """All examples of a split once, in order, in pieces of about a batch."""
        return list(self.splits[split].chunks(self.config.batch_size))

    def context(self, learns: Collection[str] = (), stream: str = "mask", **seen: Any) -> Context:
        """What the framework sees now; see Context."""
        now = {"epoch": self.epochs_done + 1, "epochs": self.config.epochs, "step": self.steps_done}
        seen |= {"space": self.space, **now}
        return Context(self.learned, self.state, self.streams[stream], learns, **seen)

    def draw(self) -> Mask:
        """A mask from what has been learned so far."""
        return self.framework.draw(self.context())

    def step(
        self,
        batch: Batch,
        learns: Collection[str] = LEARNERS,
        *,
        measure: bool = True,
        mask: Mask | None = None,
        stream: str = "mask",
    ) -> StepResult:
        """One step on a batch, in which theta, alpha, both or neither learn.

        Arguments:
            batch: images (B, channels, H, W) and labels (B,).
            learns: "theta" (the supernet), "alpha" (whatever the framework learns), both or none.
            measure: whether the cost is measured, without which alpha cannot learn.
            mask: to use instead of drawing one.
            stream: of random numbers, for the mask.
        """
        images, labels = batch
        mask = mask or self.framework.draw(self.context(learns, stream))  # Z, and its score s
        z = mask.per_cell(self.config.cells).requires_grad_(measure)  # Z as a leaf
        outputs = self.supernet.unit_weights(z) if measure else None
        with torch.set_grad_enabled(measure or "theta" in learns), self.precision():
            logits = self.supernet(images, z, mask, outputs).to(z.dtype)
        if logits.requires_grad:
            loss = F.cross_entropy(logits, labels)
            loss.backward(inputs=None if "theta" in learns else [z, outputs])
        cost = local_cost(z.grad, mask) if measure else None  # scale x dL/dZ
        seen = {"mask": mask, "logits": logits.detach(), "labels": labels, "cost": cost}
        if "theta" in learns:
            self._descend(self.theta_optimiser, self.theta, self.config.grad_clip)
            self.theta_optimiser.zero_grad()
        if "alpha" in learns:
            self._learn(self.context(learns, stream, **seen))
        return StepResult(**seen, output_cost=outputs.grad if measure else None)

    def step_ahead(self, batch: Batch, ahead: Batch) -> StepResult:
        """Second order: alpha learns from the cost after a virtual step of theta on another batch.

        Theta stays as it is: it learns from the batch ``ahead`` in the step that follows.
        """
        mask = self.framework.draw(self.context(["alpha"]))
        net, optimiser = self.supernet, self.theta_optimiser
        logits, cost, output_cost = unrolled_cost(net, optimiser, mask, batch, ahead)
        seen = {"mask": mask, "logits": logits, "labels": batch[1], "cost": cost}
        self._learn(self.context(["alpha"], **seen))
        return StepResult(**seen, output_cost=output_cost)

    def _learn(self, now: Context) -> None:
        """Alpha, or whatever the framework learns, goes down the cost that the context has."""
        learned, clamp = list(self.learned.values()), self.config.cost_clamp or math.inf
        cost = self.framework.cost(now).clamp(-clamp, clamp)  # what meets the score
        gradients = pull_back(now.mask.score, cost, learned)  # sum_k C_k ds_k/dalpha
        for p, gradient in zip(learned, gradients, strict=True):
            p.grad = gradient
        if (penalty := self.framework.penalty(now)) is not None:
            penalty.backward(inputs=learned)
        self._descend(self.alpha_optimiser, learned, self.config.arch_grad_clip)
        self.state = dict(self.framework.next_state(now))

    def one_level(self, learns: Collection[str]) -> None:
        """Theta and alpha learn from the same batch of the training set."""
        batch = self.batch("train")
        if self.framework.separate and len(learns) == 2:
            self.statistics.update("train", self.step(batch, ["alpha"]))
            self.step(batch, ["theta"], measure=False)
        else:
            self.statistics.update("train", self.step(batch, learns))

    def two_levels(self, learns: Collection[str]) -> None:
        """Alpha learns from a batch of the search set, then theta from one of the training set."""
        search, train = self.batch("search"), self.batch("train") if "theta" in learns else None
        if self.config.order == 2 and len(learns) == 2:
            result = self.step_ahead(search, train)
        else:
            result = self.step(search, [name for name in learns if name == "alpha"])
        self.statistics.update("search", result)
        if train is not None:
            self.statistics.update("train", self.step(train, ["theta"], measure=False))

    def epoch(self, tick: Callable[[], None] = lambda: None) -> None:
        """The next epoch, or what is left of it: one pass over the training set.

        Then every split that no step has used is watched. In epoch 0 nothing is learned.

        Arguments:
            tick: is called after every step, where the search may be saved and left.
        """
        config, number = self.config, self.epochs_done + 1
        frozen = {"theta": config.freeze_theta, "alpha": config.freeze_alpha}
        learns = [n for n in self.framework.learns(number, config.epochs) if not frozen[n]]
        step = self.one_level if config.level == "single" else self.two_levels
        if number > 0:
            (group,) = self.theta_optimiser.param_groups
            group["lr"] = config.learning_rate(number)
            self.history.write(number, {"learning_rate": group["lr"]})
            while self.steps_done < self.steps:
                seed_global_randomness(config.seed, f"step {number}/{self.steps_done}")
                step(learns)
                self.steps_done += 1
                tick()
        seed_global_randomness(config.seed, f"watch {number}")
        for split in SPLITS:
            learned_from = split == self.alpha_split or (split == "train" and "theta" in learns)
            if (number > 0 and learned_from) or len(self.splits[split]) == 0:
                continue
            for batch in self.chunks(split):
                result = self.step(batch, [], measure=split == self.alpha_split, stream="watch")
                self.statistics.update(split, result)
        self._write(number)

    def _write(self, number: int) -> None:
        """Ends an epoch: moves what was seen in it into the history."""
        now = time.perf_counter()
        self.statistics.write(self.history, number)
        self.history.write(number, {**self.recorded(), "seconds": now - self._epoch_started})
        self.epochs_done, self.steps_done, self._epoch_started = number, 0, now
        for batches in self.batches.values():
            batches.start_epoch()

    def recorded(self) -> dict[str, Tensor]:
        """What a record keeps of the architecture: alpha, probability, what the framework names."""
        with torch.no_grad():
            probability = self.framework.probability(self.context())
        known = {**self.learned, **self.state}
        names = [name for name in ("alpha", *self.framework.recorded) if name in known]
        return {"probability": probability} | {name: known[name].detach() for name in names}

    @torch.no_grad()
    def accuracy(self, mask: Mask, batches: Sequence[Batch]) -> float:
        """Share of right answers under a mask, on images and labels as of ``chunks``."""
        right = [self.supernet(x, mask.weight.to(x), mask).argmax(dim=1) == y for x, y in batches]
        return torch.cat(right).double().mean().item()

    def choose(self) -> Wiring | None:
        """The final wiring, if the framework chooses one by other means than its probability.

        It sees the validation split, or the last of the other splits that has examples.
        """
        seed_global_randomness(self.config.seed, "choose")
        held_out = next(split for split in reversed(SPLITS) if len(self.splits[split]))
        return self.framework.choose(self, self.chunks(held_out))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a search goes on from."""
        return {
            "epochs_done": self.epochs_done,
            "steps_done": self.steps_done,
            "epoch_seconds": time.perf_counter() - self._epoch_started,
            "learned": {name: p.detach() for name, p in self.learned.items()},
            "state": self.state,
            **{name: getattr(self, name).state_dict() for name in _MODULES},
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "batches": {split: batches.left for split, batches in self.batches.items()},
            "history": {name: torch.from_numpy(a) for name, a in self.history.arrays.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` of a search of the same config returned."""
        self.epochs_done, self.steps_done = state["epochs_done"], state["steps_done"]
        self._epoch_started = time.perf_counter() - state["epoch_seconds"]
        self.state = dict(state["state"])
        for name in _MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name, saved in state["learned"].items():
            self.learned[name].data.copy_(saved)
        for name, saved in state["streams"].items():
            self.streams[name].set_state(saved.cpu())
        for split, saved in state["batches"].items():
            self.batches[split].left = saved
        for name, saved in state["history"].items():
            self.history.arrays[name][...] = saved.cpu()

    def precision(self) -> AbstractContextManager:
        """Mixed precision of a forward pass, if the config asks for it."""
        device = self.device.type
        return torch.autocast(device, torch.bfloat16) if self.config.amp else nullcontext()

    def _descend(self, optimiser: Optimizer, parameters: list[Tensor], largest: float | None):
        """Clips the gradients to a norm, and takes a step."""
        if largest is not None:
            clip_grad_norm_(parameters, largest)
        for p in parameters if self.config.decay_unsampled else ():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        optimiser.step()


_MODULES = ("supernet", "theta_optimiser", "alpha_optimiser", "statistics")


def find_device(name: str) -> torch.device:
    """The device of a config; "auto" is the best one here. Raises ConfigError."""
    if name == "auto":
        other = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else other
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"device={name!r} is not available here: {why}") from None
