"""What a search starts from: data, supernet, framework, architecture, random streams."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Generator, Tensor

from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.random import stream, stream_seed
from nascore.engine.space import SearchSpace
from nascore.engine.supernet import Supernet
from nascore.engine.unrolled import Batch
from nascore.errors import ConfigError, checked
from nascore.frameworks import Framework
from nascore.plugins import failure
from nascore.runs.config import SearchConfig
from nascore.runs.data import Batches, Split, load_splits
from nascore.runs.datasets import DATASETS
from nascore.runs.step import Learner

_GLOBAL_RANDOMNESS = Lock()  # torch initialises modules from it; searches may share a process


@dataclass
class Setup:
    """A search before its first step.

    Arguments:
        learner: supernet, framework, architecture and both optimisers.
        splits: the data, by split.
        streams: random streams by purpose: "train", "search", "mask", "watch".
        alpha_split: the split that alpha learns from, where the cost is measured.
        learning_splits: the splits that something learns from, in the order of a step, each with
            arguments of ``Learner.step``: what learns, and whether the cost is measured.
        batch_size: examples in a batch.
        augment: whether batches to learn from are augmented.
        search_anew: whether alpha's batches of a search set are each drawn anew.
    """

    learner: Learner
    splits: dict[str, Split]
    streams: dict[str, Generator | None]
    alpha_split: str
    learning_splits: dict[str, dict[str, bool]]
    batch_size: int
    augment: bool
    search_anew: bool

    @property
    def space(self) -> SearchSpace:
        return self.supernet.space

    @property
    def supernet(self) -> Supernet:
        return self.learner.supernet

    @property
    def framework(self) -> Framework:
        return self.learner.framework

    @property
    def alpha(self) -> Tensor:
        """The architecture parameters alpha, (edges, operations), of a framework that has them."""
        return self.learner.architecture["alpha"]

    @property
    def device(self) -> torch.device:
        return self.supernet.classifier.weight.device

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.splits["train"]) // self.batch_size

    def batches(self, split: str) -> Batches:
        """Batches to learn from: images (B, channels, H, W) and labels (B,), without an end."""
        anew = self.search_anew and split == "search"
        return self.splits[split].batches(self.batch_size, self.streams[split], self.augment, anew)

    def batch(self, split: str = "train") -> Batch:
        """The next batch to learn from."""
        return next(self.batches(split))

    def chunks(self, split: str) -> Iterator[Batch]:
        """All examples of a split once, in order, in pieces of about a batch."""
        return self.splits[split].chunks(self.batch_size)


@checked
def set_up(config: SearchConfig, dtype: torch.dtype = torch.float32) -> Setup:
    """Makes everything that a search starts from, and searches nothing.

    Everything random comes from streams of the config's seed, one for each purpose, and theta and
    alpha are initialised on the CPU: every device starts from the same numbers.

    Arguments:
        dtype: of images, theta and alpha; float64 where small differences matter.

    Raises ConfigError or DataError.

    >>> config = SearchConfig(dataset="synthetic", cells=1, channels=4, batch_size=32)
    >>> setup = set_up(config)
    >>> images, labels = setup.batch()
    >>> setup.alpha.shape, images.shape
    (torch.Size([5, 8]), torch.Size([32, 3, 8, 8]))
    """
    seed, device, space = config.seed, find_device(config.device), config.space
    dataset = DATASETS[config.dataset]
    last = device.type == "cpu" if config.channels_last is None else config.channels_last
    layout = torch.channels_last if last else torch.contiguous_format
    splits = load_splits(config, device, dtype, layout)
    framework = config.make_framework().on(space)
    with _GLOBAL_RANDOMNESS, torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "theta"))
        supernet = Supernet(
            space,
            classes=dataset.classes,
            image_channels=dataset.channels,
            cells=config.cells,
            channels=config.channels,
            norm=config.norm,
            stem_affine=config.stem_affine,
            recompute=config.recompute,
            **framework.supernet_settings(),
        )
    supernet = supernet.to(device, dtype, memory_format=layout)
    for cell in supernet.cells if config.compile else ():
        cell.compile()
    noise = torch.randn(len(space.edges), len(space.operations), generator=stream(seed, "alpha"))
    alpha = config.alpha_mean + config.alpha_std * noise
    if config.freeze_alpha:
        alpha.zero_()  # uniform masks
    parameters = framework.parameters(alpha)
    check_framework(framework, parameters)
    learned = {
        name: p.detach().to(device, dtype).requires_grad_() for name, p in parameters.items()
    }
    theta, decay = list(supernet.parameters()), config.arch_weight_decay
    sgd = torch.optim.SGD(theta, config.lr, config.momentum, weight_decay=config.weight_decay)
    adam = torch.optim.Adam(learned.values(), config.arch_lr, (0.5, 0.999), weight_decay=decay)
    learner = Learner(
        supernet,
        framework,
        learned,
        {name: value.to(device, dtype) for name, value in framework.state().items()},
        sgd,
        adam,
        decay_unsampled=config.decay_unsampled,
        grad_clip=config.grad_clip,
        arch_grad_clip=config.arch_grad_clip,
        cost_clamp=config.cost_clamp,
        order=config.order,
        mixed_precision=config.amp,
    )
    learning = {"train": {"theta": not config.freeze_theta, "alpha": not config.freeze_alpha}}
    if config.level == "bi":
        learning = {"search": {"alpha": not config.freeze_alpha}}
        learning |= {} if config.freeze_theta else {"train": {"theta": True, "measure": False}}
    return Setup(
        learner,
        splits,
        {name: stream(seed, name, device) for name in ("train", "search", "mask", "watch")},
        alpha_split="train" if config.level == "single" else "search",
        learning_splits=learning,
        batch_size=config.batch_size,
        augment=config.augment,
        search_anew=config.search_order == "anew",
    )


def find_device(name: str) -> torch.device:
    """The device of a config; "auto" is the best one here."""
    if name == "auto":
        other = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else other
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"device={name!r} is not available here: {why}") from None
    return device


def check_framework(framework: Framework, parameters: Mapping[str, Tensor]) -> None:
    """Does on the CPU what a step asks of a framework, so that mistakes show before any work.

    Raises ConfigError: a method fails, a shape is wrong, or no cost would reach what is learned.
    """
    name = f"framework {type(framework).__name__}"
    learned = {key: p.detach().cpu().requires_grad_() for key, p in parameters.items()}
    try:
        with torch.enable_grad():
            _try_framework(framework, learned)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except Exception as error:  # a framework of one's own is any code
        raise ConfigError(f"{name} fails, {failure(type(framework), error)}") from error


def _try_framework(framework: Framework, learned: Mapping[str, Tensor]) -> None:
    mask = framework.mask(learned, Generator().manual_seed(0))
    if not isinstance(mask, Mask):
        raise ConfigError(f"draw returns {type(mask).__name__}, not a Mask.")
    edges, operations = shape = len(framework.space.edges), len(framework.space.operations)
    restricted, state, loss = framework.restricted(learned), framework.state(), torch.tensor(1.0)
    tensors = {f"{p} of its mask": getattr(mask, p) for p in ("weight", "score", "cost_weight")}
    tensors["probability"] = framework.probability(**restricted)
    tensors["cost"] = framework.cost(mask, torch.zeros(1, edges, operations), loss, **state)
    for what, tensor in tensors.items():
        if tuple(tensor.shape) != shape:
            raise ConfigError(f"{what} is {tuple(tensor.shape)}, not {shape}: (edges, operations).")
    penalty = framework.penalty(**restricted)
    if penalty is not None and penalty.shape != ():
        raise ConfigError(f"penalty is {tuple(penalty.shape)}, not a scalar.")
    if (then := set(framework.next_state(loss, **state))) != set(state):
        raise ConfigError(f"next_state returns {sorted(then)}, but state has {sorted(state)}.")
    pull_back(mask.score, torch.zeros_like(mask.score), list(learned.values()))
