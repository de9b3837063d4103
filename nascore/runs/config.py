"""SearchConfig: every setting of a search, checked before any work, immutable and hashable.

Nothing here imports torch until a config is made, so that the command line can show its options
at once.
"""

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
)

from nascore.engine.space import CANDIDATES, SearchSpace, edge_name, operation_name, parse_edge
from nascore.errors import Checked, ConfigError
from nascore.plugins import Registry, source_digest, twelve_digits

if TYPE_CHECKING:
    from nascore.frameworks import Framework


Share = Annotated[float, Field(ge=0, lt=1)]
EdgeName = Annotated[str, BeforeValidator(lambda edge: edge_name(parse_edge(edge)))]


def _field(default: Any, description: str) -> Any:
    return Field(default, description=description)


class SearchConfig(Checked):
    """Every setting of one search. The defaults are the authors' single-level protocol.

    Raises ConfigError: which field, which value, what is allowed.
    """

    _kind = "config field"
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    framework: str = _field("dsnas", "How masks are drawn: a name, or module:Class of your own.")
    framework_options: dict[str, Any] = _field({}, "Its options, such as temperature.")
    level: Literal["single", "bi"] = _field(
        "single", "Alpha learns on the training set (single) or on the search set (bi)."
    )
    order: Literal[1, 2] = _field(1, "Bi-level darts: cost at theta (1), or one step ahead (2).")

    dataset: str = _field(
        "cifar10", "digits, fashion-mnist, cifar10, cifar100, synthetic (tests) or module:name."
    )
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = _field(
        None, "Longer side, or [height, width]: images are pooled or padded to it. Default: native."
    )
    train_examples: PositiveInt | None = _field(
        None, "Examples that theta learns from. Default: all, or half if alpha has its own."
    )
    search_examples: NonNegativeInt | None = _field(
        None, "Examples that alpha learns from in bi-level. Default: half, or what theta leaves."
    )
    search_set: Literal["held out", "train"] = _field(
        "held out", "Bi-level: examples of alpha's own, or those that theta learns from."
    )
    search_order: Literal["epochs", "anew"] = _field(
        "epochs", "Bi-level: alpha's batches in a new order each epoch, or each drawn anew."
    )
    valid_examples: NonNegativeInt = _field(0, "Watched only; darts-pt and spos choose by them.")
    label_noise: Share = _field(0.0, "Share of all labels that are replaced by random ones.")
    augment: bool = _field(True, "Random crop (padding 4) and flip of what is learned from.")

    nodes: PositiveInt = _field(2, "Intermediate nodes of the cell: 2 minimal, 4 normal.")
    inputs: Literal[1, 2] = _field(2, "Input nodes of the cell; 1 in the simplified cell.")
    operations: tuple[str, ...] = _field(CANDIDATES, "Candidate operations, comma-separated.")
    allowed: dict[EdgeName, tuple[str, ...]] = _field(
        {}, 'Operations that an edge may take, as JSON: {"(2,3)": ["none"]} removes it.'
    )
    output_nodes: tuple[int, ...] | None = _field(
        None, "Nodes whose concatenation is the cell's output, comma-separated. Default: all."
    )
    cells: PositiveInt = _field(8, "Number of cells.")
    channels: PositiveInt = _field(16, "Channels C of every node.")
    stem_affine: bool = _field(False, "Learn a scale and a shift in the stem's batch norm.")
    norm: str = _field(
        "batch", "batch, layer, group, none, instance (cannot learn) or module:name."
    )

    epochs: PositiveInt = _field(150, "Passes over the training set.")
    stop_at_skips: PositiveInt | None = _field(
        None, "End early once so many edges would be a skip connection, as in DARTS+: 2."
    )
    stop_when_stable: PositiveInt | None = _field(
        None, "End early once so many epochs left the ranking of learnable operations as it was."
    )
    batch_size: Annotated[int, Field(ge=2)] = _field(96, "Examples in a batch.")
    lr: PositiveFloat = _field(0.025, "Learning rate of theta (SGD), at the start.")
    lr_min: NonNegativeFloat = _field(0.001, "Learning rate of theta at the end of the cosine.")
    momentum: Share = _field(0.9, "Momentum of theta.")
    weight_decay: NonNegativeFloat = _field(3e-4, "Weight decay of theta.")
    decay_unsampled: bool = _field(
        False, "Momentum and weight decay also move the weights of operations that were not drawn."
    )
    grad_clip: PositiveFloat | None = _field(5.0, "Largest norm of theta's gradient.")
    arch_lr: PositiveFloat = _field(3e-4, "Learning rate of alpha (Adam, betas 0.5 and 0.999).")
    arch_weight_decay: NonNegativeFloat = _field(1e-3, "Weight decay of alpha.")
    arch_grad_clip: PositiveFloat | None = _field(10.0, "Largest norm of alpha's gradient.")
    alpha_mean: float = _field(1.0, "Mean of the initial alpha.")
    alpha_std: NonNegativeFloat = _field(0.01, "Standard deviation of the initial alpha.")
    cost_clamp: PositiveFloat | None = _field(5.0, "Largest magnitude of a cost summed over cells.")
    freeze_alpha: bool = _field(False, "Draw masks uniformly: alpha and its settings do nothing.")
    freeze_theta: bool = _field(False, "Keep theta as it was initialised.")

    seed: NonNegativeInt = _field(0, "Seed of everything random.")
    device: str = _field("auto", "auto, cpu, cuda, cuda:1, mps ...")
    deterministic: bool | None = _field(None, "Only deterministic kernels. Default: on CUDA.")
    channels_last: bool | None = _field(None, "Channels last in memory. Default: only on a CPU.")
    amp: bool = _field(False, "Mixed precision in bfloat16: for speed on a GPU, not for costs.")
    recompute: bool = _field(False, "Compute cells again in the backward pass, to save memory.")
    compile: bool = _field(False, "Compile cells of dense frameworks, else operations.")

    _recorded: dict[str, Any] | None = PrivateAttr(None)  # the meaning, if it is of a record

    def __init__(self, **fields: Any):
        super().__init__(**_by_name(fields))
        for mistake in _mistakes(self):
            raise ConfigError(mistake)

    @classmethod
    def from_record(cls, fields: dict[str, Any], meaning: dict[str, Any] | None) -> Self:
        """A config as a record holds it: nothing that it names is looked up, or need be here.

        The fields are what ``model_dump_json`` wrote. The first records have no meaning, and name
        only what comes with the package.
        """
        config = cls.__new__(cls)
        Checked.__init__(config, **fields)
        if meaning is None and config.plug_ins:
            raise ConfigError(f"without a meaning of {', '.join(config.plug_ins)}.")
        config._recorded = meaning
        return config

    def make_framework(self) -> "Framework":
        from nascore.frameworks import make_framework

        return make_framework(self.framework, **self.framework_options)

    @property
    def space(self) -> SearchSpace:
        names = ("nodes", "inputs", "operations", "allowed", "output_nodes")
        return SearchSpace(**{name: getattr(self, name) for name in names})

    @property
    def sizes(self) -> dict[str, int]:
        """Examples of the train, search and valid split, with the defaults worked out."""
        train, search, valid = self.train_examples, self.search_examples, self.valid_examples
        left = self.meaning["examples"] - valid
        if search is None:
            held_out = self.level == "bi" and self.search_set == "held out"
            search = (left - train if train else left // 2) if held_out else 0
        return {"train": train or left - search, "search": search, "valid": valid}

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * (self.sizes["train"] // self.batch_size)

    def replace(self, **changes: Any) -> "SearchConfig":
        """A copy with some fields changed, checked like a new one.

        Another framework starts without options, and without what this one asked for.

        >>> SearchConfig(dataset="digits").replace(seed=3).changes
        {'dataset': 'digits', 'seed': 3}
        """
        fields = self.model_dump(exclude_unset=True)
        if changes.get("framework", self.framework) != self.framework:
            fields.pop("framework_options", None)
            asked = type(self.make_framework()).settings.items()
            fields = {k: v for k, v in fields.items() if (k, v) not in asked}
        return type(self)(**{**fields, **changes})

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def plug_ins(self) -> dict[str, Registry]:
        """What is not of the package, by name, with the registry that finds it."""
        names = {"framework": self.framework, "dataset": self.dataset, "norm": self.norm}
        named = [*names.items(), *(("operations", name) for name in self.operations)]
        return {name: _registries()[field] for field, name in named if ":" in name}

    @property
    def meaning(self) -> dict[str, Any]:
        """What its names stand for: digests of plug-ins, the dataset's size and classes."""
        if self._recorded is not None:
            return self._recorded
        sources = {name: source_digest(registry[name]) for name, registry in self.plug_ins.items()}
        dataset = _registries()["dataset"][self.dataset]
        return {"sources": sources, "examples": dataset.examples, "classes": dataset.classes}

    @property
    def address(self) -> str:
        """What is searched, as JSON, with the source of every plug-in and without the machine."""
        fields = {name: value for name, value in self.changes.items() if name not in _MACHINE}
        if self.plug_ins:
            fields["sources"] = self.meaning["sources"]
        return json.dumps(fields, sort_keys=True)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the address, the same on every machine."""
        return twelve_digits(self.address)

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        """Whether the same is searched, on whatever machine and by whatever kernels."""
        return isinstance(other, SearchConfig) and self.address == other.address

    def learning_rate(self, epoch: int) -> float:
        """Theta's learning rate in an epoch (1 is the first): half a cosine from lr to lr_min."""
        cosine = math.cos(math.pi * (epoch - 1) / self.epochs)
        return self.lr_min + (self.lr - self.lr_min) * (1 + cosine) / 2


_MACHINE = ("device", "compile", "recompute", "channels_last", "deterministic")
"""Settings that say how a search is computed, not what is searched."""


def _by_name(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with each plug-in by its full name, and with what the framework asks for."""
    from nascore.frameworks import Framework, make_framework

    registries = _registries()
    framework = fields.get("framework", SearchConfig.model_fields["framework"].default)
    options = fields.get("framework_options", {})
    if not isinstance(options, dict):
        raise ConfigError(f"framework_options={options!r}: give a dictionary.")
    if isinstance(framework, Framework):
        if options:
            raise ConfigError(f"framework_options={options!r} with {framework!r}: give one.")
        framework, options = type(framework), framework.model_dump(exclude_defaults=True)
    name = registries["framework"].name_of(framework)
    made = make_framework(name, **options)
    options = made.model_dump(mode="json", exclude_defaults=True)
    names = {"framework": name, "framework_options": options}
    for field in {"dataset", "norm"} & fields.keys():
        names[field] = registries[field].name_of(fields[field])
    operations = fields.get("operations")
    if isinstance(operations, list | tuple):
        full = registries["operations"].name_of
        names["operations"] = [full(n) if ":" in n else operation_name(n) for n in operations]
    return {**made.settings, **fields, **names}


def _mistakes(config: SearchConfig) -> Iterator[str]:
    """What does not go together. Raises ConfigError for what the space or a plug-in refuses."""
    from nascore.engine.operations import build_norm, build_operation

    _ = config.space, config.meaning  # every edge can be wired, and every plug-in has a source
    if config.lr_min > config.lr:
        yield f"lr_min={config.lr_min} is above lr={config.lr}: the rate only falls."
    if config.stop_at_skips and "skip_connect" not in config.operations:
        yield f"stop_at_skips={config.stop_at_skips} without skip_connect among the operations."

    for name in {"search_set", "search_order"} & config.changes.keys():
        if config.level == "single":
            value = f"{name}={getattr(config, name)!r} with level='single'"
            yield f"{value}: there is no search set. It is for level='bi'."
    if config.search_set == "train" and config.search_examples:
        value = f"search_examples={config.search_examples} with search_set='train'"
        yield f"{value}: alpha learns from the training set. Leave one of them out."
    sizes, total = config.sizes, config.meaning["examples"]
    if min(sizes.values()) < 0 or sum(sizes.values()) > total:
        values = ", ".join(f"{name}_examples={size}" for name, size in sizes.items())
        yield f"{values}: {config.dataset} has {total} in all."
    held_out = config.level == "bi" and config.search_set == "held out"
    for name in ("train", "search") if held_out else ("train",):
        if sizes[name] < config.batch_size:
            few = f"{name}_examples={sizes[name]} is less than one batch"
            yield f"{few}: batch_size={config.batch_size}."

    framework = _registries()["framework"][config.framework]
    if config.order == 2:
        for name in ("compile", "amp", "freeze_theta", "freeze_alpha"):
            if getattr(config, name):
                yield f"{name}=True with order=2, which differentiates theta's step: leave one out."
        if not framework.unrolls or config.level == "single":
            value = f"order=2 with framework={config.framework!r} and level={config.level!r}"
            yield f"{value}: it is for level='bi' and frameworks such as darts."

    build_norm(config.norm, config.channels)  # may not fit so many channels
    for name in filter(lambda name: ":" in name, config.operations):
        build_operation(name, config.channels, config.norm)


def _registries() -> dict[str, Registry]:
    """Where the plug-ins of a field are found. Imports torch."""
    from nascore.engine.operations import NORMS, OPERATIONS
    from nascore.frameworks import FRAMEWORKS
    from nascore.runs.datasets import DATASETS

    return {"framework": FRAMEWORKS, "dataset": DATASETS, "norm": NORMS, "operations": OPERATIONS}
