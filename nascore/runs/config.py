"""SearchConfig: every setting of a search, checked before any work, immutable and hashable.

Nothing here imports torch until a config is made, so that the command line can show its options
at once.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from nascore.engine.space import CANDIDATES, SearchSpace, edge_name, operation_name, parse_edge
from nascore.errors import ConfigError, explain

if TYPE_CHECKING:
    from nascore.engine.frameworks import Framework

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _field(default: Any, description: str) -> Any:
    return Field(default, description=description)


class SearchConfig(BaseModel):
    """Every setting of one search. The defaults are the authors' single-level protocol.

    Raises ConfigError: which field, which value, what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    framework: str = _field(
        "dsnas", "How masks are drawn from alpha: a name, or module:Class for one of your own."
    )
    framework_options: Mapping[str, Any] = Field(
        default_factory=dict, description="Options of the framework, such as temperature."
    )
    level: Literal["single", "bi"] = _field(
        "single", "Alpha learns on the training set (single) or on the search set (bi)."
    )
    order: Literal[1, 2] = _field(
        1,
        "Bi-level search with a deterministic mask (darts): alpha's cost, and what is recorded "
        "with it, at theta (1) or after a virtual step of theta (2).",
    )

    dataset: str = _field(
        "cifar10",
        "digits, fashion-mnist, cifar10, cifar100, synthetic (tiny, for tests), or module:name for "
        "one of your own.",
    )
    image_size: PositiveInt | None = _field(
        None, "Height and width: larger images are pooled, smaller ones padded. Default: native."
    )
    train_examples: PositiveInt | None = _field(
        None, "Examples that theta learns from. Default: all that remain (bi-level: half of them)."
    )
    search_examples: Annotated[int, Field(ge=0)] | None = _field(
        None, "Examples that alpha learns from in bi-level. Default: 0 (bi-level: the other half)."
    )
    valid_examples: Annotated[int, Field(ge=0)] = _field(
        0, "Examples that are only watched, from the training part of the dataset."
    )
    label_noise: Share = _field(
        0.0, "Share of all labels that are replaced by random ones, once, by seed."
    )
    augment: bool = _field(True, "Random crop (padding 4) and horizontal flip of training images.")

    nodes: PositiveInt = _field(2, "Intermediate nodes of the cell: 2 minimal, 4 normal.")
    inputs: Literal[1, 2] = _field(2, "Input nodes of the cell; 1 in the simplified cell.")
    operations: tuple[str, ...] = _field(CANDIDATES, "Candidate operations, comma-separated.")
    allowed: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='Operations that an edge may take, as JSON: {"(2,3)": ["none"]} removes it.',
    )
    output_nodes: tuple[int, ...] | None = _field(
        None, "Nodes whose concatenation is the cell's output, comma-separated. Default: all."
    )
    cells: PositiveInt = _field(8, "Number of cells.")
    channels: PositiveInt = _field(16, "Channels C of every node.")
    norm: str = _field(
        "batch",
        "Normalisation after every convolution and pool: batch, layer, group, none, instance (with "
        "which the network cannot learn: the global pooling of what is normalised over space is 0) "
        "or module:name for one of your own.",
    )

    epochs: PositiveInt = _field(150, "Passes over the training set.")
    batch_size: Annotated[int, Field(ge=2)] = _field(96, "Examples in a batch.")
    lr: Positive = _field(0.025, "Learning rate of theta (SGD), at the start.")
    lr_min: NonNegative = _field(0.001, "Learning rate of theta at the end of the cosine.")
    momentum: Share = _field(0.9, "Momentum of theta.")
    weight_decay: NonNegative = _field(3e-4, "Weight decay of theta.")
    grad_clip: Positive | None = _field(5.0, "Largest norm of theta's gradient.")
    arch_lr: Positive = _field(3e-4, "Learning rate of alpha (Adam, betas 0.5 and 0.999).")
    arch_weight_decay: NonNegative = _field(1e-3, "Weight decay of alpha.")
    arch_grad_clip: Positive | None = _field(10.0, "Largest norm of alpha's gradient.")
    alpha_mean: Finite = _field(1.0, "Mean of the initial alpha.")
    alpha_std: NonNegative = _field(0.01, "Standard deviation of the initial alpha.")
    cost_clamp: Positive | None = _field(
        5.0, "Largest size of a cost, summed over cells, before it meets the score."
    )
    freeze_alpha: bool = _field(
        False,
        "Draw masks uniformly; alpha does not learn, and the settings of alpha have no effect.",
    )
    freeze_theta: bool = _field(False, "Keep theta as it was initialised.")

    seed: Annotated[int, Field(ge=0)] = _field(0, "Seed of everything random.")
    device: str = _field("auto", "auto, cpu, cuda, cuda:1, mps ...")
    deterministic: bool = _field(False, "Use only deterministic kernels on a GPU (slower).")
    channels_last: bool | None = _field(
        None, "Keep the channels of a place together in memory. Default: on a CPU, yes; else no."
    )
    amp: bool = _field(
        False,
        "Automatic mixed precision in bfloat16: for speed on a recent GPU, not for cost figures.",
    )
    recompute: bool = _field(
        False, "Compute each cell again in the backward pass: less memory, more time."
    )
    compile: bool = _field(
        False,
        "Compile the cells of a dense framework (torch.compile): minutes at the start, for long "
        "searches.",
    )

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            known = type(self).model_fields
            lines = [explain(wrong, "config field", known) for wrong in error.errors()]
            raise ConfigError("\n".join(lines)) from None

    @model_validator(mode="before")
    @classmethod
    def _framework_and_options(cls, fields: Any) -> Any:
        """The framework by name and its options by theirs, however they were given."""
        from nascore.engine.frameworks import FRAMEWORKS, Framework, make_framework  # imports torch

        framework = fields.get("framework", cls.model_fields["framework"].default)
        options = fields.get("framework_options", {})
        if not isinstance(options, Mapping):
            raise ConfigError(f"framework_options={options!r}: give names and values.")
        options = dict(options)
        if isinstance(framework, Framework):
            if options:
                raise ConfigError(f"framework_options={options!r} with {framework!r}: give one.")
            framework, options = type(framework), framework.model_dump(exclude_defaults=True)
        name = FRAMEWORKS.name_of(framework)
        moved = {key: fields[key] for key in _MOVED if key in fields}
        own = FRAMEWORKS[name].model_fields
        options |= {k: v for k, v in moved.items() if k in own or v != _MOVED[k]}
        fields = {key: value for key, value in fields.items() if key not in _MOVED}
        made = make_framework(name, **options)
        chosen = made.model_dump(mode="json", exclude_defaults=True)
        return {**fields, "framework": name, "framework_options": chosen}

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        from nascore.runs.datasets import DATASETS  # imports torch

        return DATASETS.name_of(name)

    @field_validator("operations")
    @classmethod
    def _full_names(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(operation_name, operations))

    @field_validator("norm")
    @classmethod
    def _known_norm(cls, name: str) -> str:
        if name == "batch":  # the usual one needs no torch
            return name
        from nascore.engine.operations import NORMS

        return NORMS.name_of(name)

    @field_validator("allowed", mode="before")
    @classmethod
    def _edges_as_text(cls, allowed: Any) -> Any:
        if not isinstance(allowed, Mapping):
            return allowed
        edges = {key: parse_edge(key) for key in allowed}
        if len(set(edges.values())) < len(edges):
            raise ConfigError(f"allowed names an edge twice: {', '.join(map(str, allowed))}.")
        return {edge_name(edges[key]): allowed[key] for key in sorted(edges, key=edges.get)}

    @model_validator(mode="after")
    def _possible(self) -> "SearchConfig":
        _ = self.space  # checks operations, allowed and output_nodes
        if self.level == "bi" and self.search_examples == 0:
            raise ConfigError(
                "level='bi' with search_examples=0: alpha has nothing to learn from. "
                "Give search_examples, or leave it out to take half of the data."
            )
        self._check_framework()
        if self.lr_min > self.lr:
            raise ConfigError(f"lr_min={self.lr_min} is above lr={self.lr}: the rate only falls.")
        self._check_modules()
        self._check_sizes()
        return self

    def _check_modules(self) -> None:
        """Makes what may not fit so many channels once, so that mistakes show before any work."""
        from nascore.engine.operations import build_norm, build_operation

        build_norm(self.norm, self.channels)
        for name in self.operations:
            if ":" in name:
                build_operation(name, self.channels, self.norm)

    def _check_framework(self) -> None:
        from nascore.engine.frameworks import FRAMEWORKS

        framework = FRAMEWORKS[self.framework]
        if self.compile and not framework.dense:
            able = ", ".join(name for name, kind in FRAMEWORKS.items() if kind.dense)
            raise ConfigError(
                f"compile=True with framework={self.framework!r}: every mask would be compiled "
                f"anew. It is for {able}."
            )
        if self.order == 1:
            return
        for name in ("compile", "amp"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}=True with order=2: what differentiates twice does neither compile "
                    "nor mix precisions. Leave one of them out."
                )
        if not framework.unrolls or self.level != "bi":
            able = " or ".join(repr(name) for name, kind in FRAMEWORKS.items() if kind.unrolls)
            raise ConfigError(
                f"order=2 with framework={self.framework!r} and level={self.level!r}: the second "
                f"order is for framework={able} and level='bi'."
            )
        for name, lacking in (("theta", "step to look ahead to"), ("alpha", "use for it")):
            if getattr(self, f"freeze_{name}"):
                raise ConfigError(
                    f"order=2 with freeze_{name}=True: {name} has no {lacking}. "
                    "Leave one of them out."
                )

    def make_framework(self) -> "Framework":
        """The framework with its options."""
        from nascore.engine.frameworks import make_framework

        return make_framework(self.framework, **self.framework_options)

    @property
    def space(self) -> SearchSpace:
        return SearchSpace(
            nodes=self.nodes,
            inputs=self.inputs,
            operations=self.operations,
            allowed=self.allowed,
            output_nodes=self.output_nodes,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Examples of the train, search and valid split, with the defaults worked out."""
        from nascore.runs.datasets import DATASETS

        train, search, valid = self.train_examples, self.search_examples, self.valid_examples
        left = DATASETS[self.dataset].examples - valid
        if search is None:
            search = 0 if self.level == "single" else (left - train if train else left // 2)
        if train is None:
            train = left - search
        return {"train": train, "search": search, "valid": valid}

    def _check_sizes(self) -> None:
        from nascore.runs.datasets import DATASETS

        sizes, total = self.sizes, DATASETS[self.dataset].examples
        given = ", ".join(f"{name}_examples={size}" for name, size in sizes.items())
        if min(sizes.values()) < 0 or sum(sizes.values()) > total:
            raise ConfigError(f"{given}: together more than the {total} of {self.dataset}.")
        learned = ("train", "search") if self.level == "bi" else ("train",)
        for name in learned:
            if sizes[name] < self.batch_size:
                raise ConfigError(
                    f"{name}_examples={sizes[name]} is less than one batch: "
                    f"batch_size={self.batch_size}."
                )

    def replace(self, **changes: Any) -> "SearchConfig":
        """A copy with some fields changed, checked like a new one.

        Another framework starts without options.

        >>> SearchConfig(dataset="digits").replace(seed=3).changes
        {'dataset': 'digits', 'seed': 3}
        """
        fields = self.model_dump(exclude_unset=True)
        if changes.get("framework", self.framework) != self.framework:
            fields.pop("framework_options", None)
        return type(self)(**{**fields, **changes})

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def plug_ins(self) -> dict[str, Any]:
        """What is not of the package, by name, with the registry that finds it."""
        from nascore.engine.frameworks import FRAMEWORKS
        from nascore.engine.operations import NORMS, OPERATIONS
        from nascore.runs.datasets import DATASETS

        used = {self.framework: FRAMEWORKS, self.dataset: DATASETS, self.norm: NORMS}
        used |= dict.fromkeys(self.operations, OPERATIONS)
        return {name: registry for name, registry in used.items() if ":" in name}

    @property
    def address(self) -> str:
        """What is searched, as JSON: all that tells this search from others.

        The settings of the machine are no part of it; the source of every plug-in is.
        """
        told = {name: value for name, value in self.changes.items() if name not in _MACHINE}
        options = told.pop("framework_options", {})
        told |= {name: options.pop(name) for name in _MOVED if name in options}
        told |= {"framework_options": options} if options else {}
        sources = {name: registry.digest(name) for name, registry in self.plug_ins.items()}
        told |= {"sources": sources} if sources else {}
        return json.dumps(told, sort_keys=True)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the address, the same on every machine."""
        return _digits(self.address)

    @property
    def old_hash(self) -> str:
        """The hash as it was when the settings of the machine belonged to it."""
        machine = {name: value for name, value in self.changes.items() if name in _MACHINE}
        return _digits(json.dumps({**json.loads(self.address), **machine}, sort_keys=True))

    def __eq__(self, other: object) -> bool:
        """Whether two configs are the same, their machines included."""
        return isinstance(other, SearchConfig) and self.changes == other.changes

    def __hash__(self) -> int:
        return hash(self.hash)

    def learning_rate(self, epoch: int) -> float:
        """Theta's learning rate in an epoch (1 is the first): half a cosine from lr to lr_min."""
        cosine = math.cos(math.pi * (epoch - 1) / self.epochs)
        return self.lr_min + (self.lr - self.lr_min) * (1 + cosine) / 2


_MACHINE = ("device", "compile", "recompute", "channels_last", "deterministic")
"""Settings that say how a search is computed, and do not change what is searched."""

_MOVED = {"temperature": 1.0, "temperature_end": None}
"""Options of a framework that were fields once, and may be given as such, with their defaults."""


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
