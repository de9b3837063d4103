"""SearchConfig: every setting of a search, checked before any work, immutable and hashable.

Nothing here imports torch until a config is made, so that the command line can show its options
at once.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nascore.engine.space import (
    CANDIDATES,
    MOST_NODES,
    SearchSpace,
    edge_name,
    operation_name,
    parse_edge,
)
from nascore.errors import ConfigError, checked, explain, shown, unknown
from nascore.plugins import Registry, twelve_digits

if TYPE_CHECKING:
    from nascore.frameworks import Framework


class ReadOnly(dict):
    """A dictionary that cannot be changed."""

    def _refuse(self, *args: Any, **named: Any) -> None:
        raise ConfigError("a SearchConfig cannot be changed. Make another one with replace.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: Any) -> "ReadOnly":
        return self

    def __reduce__(self) -> tuple:
        return type(self), (dict(self),)


def _read_only(value: Any) -> Any:
    """A value of JSON in which no part can be changed: lists become tuples."""
    if isinstance(value, Mapping):
        return ReadOnly({key: _read_only(part) for key, part in value.items()})
    return tuple(map(_read_only, value)) if isinstance(value, list | tuple) else value


Share = Annotated[float, Field(ge=0, lt=1)]
Fixed = AfterValidator(_read_only)


def _up_to(most: int, least: int = 1) -> Any:
    """A whole number. What is far beyond any search is a mistake, and would take for ever."""
    return Annotated[int, Field(ge=least, le=most)]


def _field(default: Any, description: str) -> Any:
    return Field(default, description=description)


class SearchConfig(BaseModel):
    """Every setting of one search. The defaults are the authors' single-level protocol.

    Raises ConfigError: which field, which value, what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    framework: str = _field("dsnas", "How masks are drawn: a name, or module:Class of your own.")
    framework_options: Annotated[Mapping[str, Any], Fixed] = _field(
        ReadOnly(), "Its options, such as temperature."
    )
    level: Literal["single", "bi"] = _field(
        "single", "Alpha learns on the training set (single) or on the search set (bi)."
    )
    order: Literal[1, 2] = _field(1, "Bi-level darts: cost at theta (1), or one step ahead (2).")

    dataset: str = _field(
        "cifar10", "digits, fashion-mnist, cifar10, cifar100, synthetic (tests) or module:name."
    )
    image_size: _up_to(4096) | None = _field(
        None, "Height and width: larger images are pooled, smaller ones padded. Default: native."
    )
    train_examples: PositiveInt | None = _field(
        None, "Examples that theta learns from. Default: all that remain (bi-level: half of them)."
    )
    search_examples: NonNegativeInt | None = _field(
        None, "Examples that alpha learns from in bi-level. Default: the other half."
    )
    search_set: Literal["held out", "train"] = _field(
        "held out", "Bi-level: examples of alpha's own, or those that theta learns from."
    )
    search_order: Literal["epochs", "anew"] = _field(
        "epochs", "Bi-level: alpha's batches go through the search set, or each is drawn anew."
    )
    valid_examples: NonNegativeInt = _field(0, "Examples that are only watched.")
    label_noise: Share = _field(0.0, "Share of all labels that are replaced by random ones.")
    augment: bool = _field(True, "Random crop (padding 4) and horizontal flip of training images.")

    nodes: _up_to(MOST_NODES) = _field(2, "Intermediate nodes of the cell: 2 minimal, 4 normal.")
    inputs: Literal[1, 2] = _field(2, "Input nodes of the cell; 1 in the simplified cell.")
    operations: tuple[str, ...] = _field(CANDIDATES, "Candidate operations, comma-separated.")
    allowed: Annotated[Mapping[str, tuple[str, ...]], Fixed] = _field(
        ReadOnly(), 'Operations that an edge may take, as JSON: {"(2,3)": ["none"]} removes it.'
    )
    output_nodes: tuple[int, ...] | None = _field(
        None, "Nodes whose concatenation is the cell's output, comma-separated. Default: all."
    )
    cells: _up_to(1000) = _field(8, "Number of cells.")
    channels: _up_to(4096) = _field(16, "Channels C of every node.")
    stem_affine: bool = _field(False, "Learn a scale and a shift in the stem's batch norm.")
    norm: str = _field(
        "batch", "batch, layer, group, none, instance (cannot learn) or module:name."
    )

    epochs: _up_to(10**6) = _field(150, "Passes over the training set.")
    batch_size: _up_to(10**6, least=2) = _field(96, "Examples in a batch.")
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
    cost_clamp: PositiveFloat | None = _field(5.0, "Largest size of a cost summed over cells.")
    freeze_alpha: bool = _field(False, "Draw masks uniformly: alpha and its settings do nothing.")
    freeze_theta: bool = _field(False, "Keep theta as it was initialised.")

    seed: _up_to(2**63 - 1, least=0) = _field(0, "Seed of everything random.")
    device: str = _field("auto", "auto, cpu, cuda, cuda:1, mps ...")
    deterministic: bool = _field(False, "Use only deterministic kernels on a GPU (slower).")
    channels_last: bool | None = _field(None, "Channels last in memory. Default: only on a CPU.")
    amp: bool = _field(False, "Mixed precision in bfloat16: for speed on a GPU, not for costs.")
    recompute: bool = _field(False, "Compute cells again in the backward pass, to save memory.")
    compile: bool = _field(False, "Compile cells of dense frameworks: minutes at first, then fast.")

    @checked
    def __init__(self, **fields: Any):
        with _every_mistake_named():
            super().__init__(**fields)

    @model_validator(mode="before")
    @classmethod
    def _framework_and_options(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """The framework by name and its options by theirs, however they were given."""
        from nascore.frameworks import FRAMEWORKS, Framework, make_framework

        if not isinstance(fields, Mapping):
            raise ConfigError(f"{shown(fields)}: give fields of SearchConfig by name.")
        framework = fields.get("framework", cls.model_fields["framework"].default)
        options = fields.get("framework_options", {})
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ConfigError(f"framework_options={shown(options)}: give names and values.")
        if isinstance(framework, Framework):
            if options:
                raise ConfigError(f"framework_options={options!r} with {framework!r}: give one.")
            framework, options = type(framework), framework.model_dump(exclude_defaults=True)
        name = FRAMEWORKS.name_of(framework)
        made = make_framework(name, **options)
        options = made.model_dump(mode="json", exclude_defaults=True)
        settings = dict(type(made).settings)
        for field in settings.keys() - cls.model_fields.keys():
            asks = f"framework {type(made).__name__} asks for {field}={settings[field]!r}"
            raise ConfigError(f"{asks}: {unknown('config field', field, cls.model_fields)}")
        return {**settings, **fields, "framework": name, "framework_options": options}

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """True and False are no numbers."""
        kind = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ConfigError(f"{info.field_name}={value}: this is not a setting to switch.")
        return value

    @field_validator("device")
    @classmethod
    def _a_device(cls, name: str) -> str:
        import torch

        try:
            _ = name == "auto" or torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device={shown(name)}: {str(error).splitlines()[0]}") from None
        return name

    @field_validator("dataset", "norm")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        return _registries()[info.field_name].name_of(name)

    @field_validator("operations")
    @classmethod
    def _full_names(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(operation_name, operations))

    @field_validator("allowed", mode="before")
    @classmethod
    def _edges_as_text(cls, allowed: Any) -> Any:
        if not isinstance(allowed, Mapping):
            return allowed
        edges = {parse_edge(key): operations for key, operations in allowed.items()}
        if len(edges) < len(allowed):
            raise ConfigError(f"allowed names an edge twice: {', '.join(map(str, allowed))}.")
        return {edge_name(edge): edges[edge] for edge in sorted(edges)}

    @model_validator(mode="after")
    def _possible(self) -> "SearchConfig":
        _ = self.space  # checks operations, allowed and output_nodes
        self._check_search_set()
        self._check_framework()
        if self.lr_min > self.lr:
            raise ConfigError(f"lr_min={self.lr_min} is above lr={self.lr}: the rate only falls.")
        self._check_modules()
        self._check_sizes()
        return self

    def _check_search_set(self) -> None:
        if self.level == "single":
            for name in ("search_set", "search_order"):
                if (value := getattr(self, name)) != type(self).model_fields[name].default:
                    given = f"{name}={value!r} with level='single'"
                    raise ConfigError(f"{given}: there is no search set. It is for level='bi'.")
        elif self.search_set == "train" and self.search_examples:
            given = f"search_examples={self.search_examples} with search_set='train'"
            raise ConfigError(
                f"{given}: alpha learns from the training set. Leave one of them out."
            )
        elif self.search_set == "held out" and self.search_examples == 0:
            nothing = "level='bi' with search_examples=0: alpha has nothing to learn from."
            raise ConfigError(f"{nothing} Leave search_examples out to take half of the data.")

    def _check_framework(self) -> None:
        frameworks = _registries()["framework"]
        framework, given = frameworks[self.framework], f"framework={self.framework!r}"
        if self.compile and not framework.dense:
            able = ", ".join(name for name, kind in frameworks.items() if kind.dense)
            why = "every mask would be compiled anew"
            raise ConfigError(f"compile=True with {given}: {why}. It is for {able}.")
        if self.order == 1:
            return
        for name, why in _NOT_IN_SECOND_ORDER.items():
            if getattr(self, name):
                raise ConfigError(f"{name}=True with order=2: {why}. Leave one of them out.")
        if not framework.unrolls or self.level != "bi":
            able = " or ".join(repr(name) for name, kind in frameworks.items() if kind.unrolls)
            given = f"order=2 with {given} and level={self.level!r}"
            raise ConfigError(f"{given}: it is for framework={able} and level='bi'.")

    def _check_modules(self) -> None:
        """Makes what may not fit so many channels once."""
        from nascore.engine.operations import build_norm, build_operation

        build_norm(self.norm, self.channels)
        for name in self.operations:
            if ":" in name:
                build_operation(name, self.channels, self.norm)

    def _check_sizes(self) -> None:
        sizes, total = self.sizes, _registries()["dataset"][self.dataset].examples
        given = ", ".join(f"{name}_examples={size}" for name, size in sizes.items())
        if min(sizes.values()) < 0 or sum(sizes.values()) > total:
            raise ConfigError(f"{given}: together more than the {total} of {self.dataset}.")
        held_out = self.level == "bi" and self.search_set == "held out"
        for name in ("train", "search") if held_out else ("train",):
            if sizes[name] < self.batch_size:
                few = f"{name}_examples={sizes[name]} is less than one batch"
                raise ConfigError(f"{few}: batch_size={self.batch_size}.")

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
        left = _registries()["dataset"][self.dataset].examples - valid
        if search is None:
            held_out = self.level == "bi" and self.search_set == "held out"
            search = (left - train if train else left // 2) if held_out else 0
        return {"train": train or left - search, "search": search, "valid": valid}

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(f"a SearchConfig is frozen. Make another one with replace({name}=...).")

    def __delattr__(self, name: str) -> None:
        setattr(self, name, None)  # which is refused

    @classmethod
    def model_validate(cls, obj: Any, **settings: Any) -> "SearchConfig":
        with _every_mistake_named():
            return super().model_validate(obj, **settings)

    @classmethod
    def model_validate_json(cls, json_data: Any, **settings: Any) -> "SearchConfig":
        with _every_mistake_named():
            return super().model_validate_json(json_data, **settings)

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> "SearchConfig":
        """What ``replace`` makes: no copy goes unchecked."""
        return self.replace(**(update or {}))

    copy = model_copy

    @classmethod
    def model_construct(cls, _fields_set: Any = None, **fields: Any) -> "SearchConfig":
        """A config like any other: none goes unchecked."""
        return cls(**fields)

    @checked
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
        found = {}
        for field, registry in _registries().items():
            names = getattr(self, field)
            names = [names] if isinstance(names, str) else names
            found |= {name: registry for name in names if ":" in name}
        return found

    @property
    def address(self) -> str:
        """What is searched, as JSON: all that tells this search from others.

        The settings of the machine are no part of it; the source of every plug-in is.
        """
        told = {name: value for name, value in self.changes.items() if name not in _MACHINE}
        sources = {name: registry.digest(name) for name, registry in self.plug_ins.items()}
        told |= {"sources": sources} if sources else {}
        return json.dumps(told, sort_keys=True)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the address, the same on every machine."""
        return twelve_digits(self.address)

    def __hash__(self) -> int:
        return hash(self.hash)

    def learning_rate(self, epoch: int) -> float:
        """Theta's learning rate in an epoch (1 is the first): half a cosine from lr to lr_min."""
        cosine = math.cos(math.pi * (epoch - 1) / self.epochs)
        return self.lr_min + (self.lr - self.lr_min) * (1 + cosine) / 2


_MACHINE = ("device", "compile", "recompute", "channels_last", "deterministic")
"""Settings that say how a search is computed, and do not change what is searched."""

_NOT_IN_SECOND_ORDER = {
    "compile": "what is compiled cannot be differentiated twice",
    "amp": "what differentiates twice does not mix precisions",
    "freeze_theta": "theta has no step to look ahead to",
    "freeze_alpha": "alpha has no use for it",
}


@contextmanager
def _every_mistake_named() -> Iterator[None]:
    """Raises ConfigError, with a line for each field, for what does not pass the checks."""
    try:
        yield
    except ValidationError as error:
        known = SearchConfig.model_fields
        lines = [explain(wrong, "config field", known) for wrong in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _registries() -> dict[str, Registry]:
    """Where the plug-ins of a field are found. Imports torch."""
    from nascore.engine.operations import NORMS, OPERATIONS
    from nascore.frameworks import FRAMEWORKS
    from nascore.runs.datasets import DATASETS

    return {"framework": FRAMEWORKS, "dataset": DATASETS, "norm": NORMS, "operations": OPERATIONS}
