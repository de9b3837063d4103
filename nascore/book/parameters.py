"""The parameters of the book's pages: the range, the unit and the meaning of each, said once."""

from typing import Annotated, Any, Literal

import pandas
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, PrivateAttr

from nascore.book.tables import TEMPLATES, to_html
from nascore.errors import Checked
from nascore.evidence.experiments import Configs, configs_of, flat
from nascore.evidence.profiles import PROFILES
from nascore.runs.config import SearchConfig

OVERRIDES = ("framework", "dataset", "operations", "epochs", "lr", "arch_lr", "nodes", "norm")
"""Parameters that are settings of every search of a page."""
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _parameter(meaning: str, unit: str = "") -> Any:
    return Field(None, description=meaning, json_schema_extra={"unit": unit})


class Parameters(Checked):
    """The parameters of a page, checked; shown, a table of what they come to.

    A page gives those that it has; None is the profile's value. ``published`` are the experiments
    whose records it loads, whatever its parameters are.

    Raises ConfigError, with a line for each mistake: the value, and what is allowed.
    """

    _kind = "parameter"
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    profile: Literal[PROFILES] = _parameter("where the settings of the searches come from")
    seeds: Annotated[int, Field(ge=1, le=20)] | None = _parameter("seeds of each arm")
    framework: str | None = _parameter("how masks are drawn: darts, snas, dsnas, ...")
    epochs: PositiveInt | None = _parameter("passes over the training set", "epochs")
    level: Literal["single", "bi"] = _parameter("whether α learns from examples of its own")
    dataset: str | None = _parameter("the images: digits, fashion-mnist, cifar10, ...")
    operations: list[str] | None = _parameter("the candidates on every edge")
    lr: PositiveFloat | None = _parameter("learning rate of θ", "1 / step")
    arch_lr: PositiveFloat | None = _parameter("learning rate of α", "logits / step")
    nodes: Annotated[int, Field(ge=1, le=8)] | None = _parameter(
        "intermediate nodes: 2 in the minimal cell, 4 in the normal one"
    )
    norm: str | None = _parameter("batch, instance, layer, group or none")
    store: Annotated[str, Field(min_length=1)] = _parameter("folder of records")
    workers: NonNegativeInt | None = _parameter("searches at a time", "processes")

    seed: Annotated[int, Field(ge=0, lt=2**63)] = _parameter("of what is drawn on this page")
    draws: Annotated[int, Field(ge=2, le=100_000)] = _parameter("random draws behind a mean")
    repetitions: Annotated[int, Field(ge=1, le=100_000)] = _parameter("simulations of each null")
    output: float = _parameter("what the operation of the example computes")
    right: Annotated[float, Field(ge=0.1, le=1)] = _parameter("share of examples of class 1")
    start: Annotated[float, Field(ge=1e-6, le=0.1)] = _parameter("strength of a mode at the start")
    strength: Annotated[float, Field(ge=0.5, le=2)] = _parameter("strength that a mode learns")
    edge: Literal["(0,2)", "(1,2)", "(0,3)", "(1,3)", "(2,3)"] = _parameter("the edge looked at")
    device: Literal["cpu", "cuda"] = _parameter("whose results are shown")
    results: str | None = _parameter("folder of results")

    published: tuple[str, ...] = ()
    _configs: dict[str, Configs] = PrivateAttr(default_factory=dict)

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of SearchConfig that override the profile's, in all searches of the page."""
        return self.model_dump(include=set(OVERRIDES), exclude_none=True)

    def configs(self, experiment: str, **arguments: Any) -> Configs:
        """The searches of an experiment under these parameters. Arguments: see ``configs_of``."""
        arguments = {"seeds": self.seeds, "changes": self.changes, **arguments}
        self._configs[experiment] = configs_of(experiment, self.profile, **arguments)
        return self._configs[experiment]

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("parameters.html").render(
            rows=self.table().itertuples(),
            table=to_html(self.table()),
            reach=[f"{name} ({len(flat(arms))} searches)" for name, arms in self._configs.items()],
            published=self.published,
        )

    def table(self) -> pandas.DataFrame:
        """What the parameters come to: a row for each that the page has."""
        known = type(self).model_json_schema()["properties"]
        defaults = SearchConfig.model_fields
        rows = [
            {
                "parameter": name,
                "value": self._value(name),
                "unit": known[name]["unit"],
                "range": _range(known[name]),
                "the paper's": str(defaults[name].default) if name in OVERRIDES else "",
                "what it is": known[name]["description"],
            }
            for name in known
            if name in self.model_fields_set and name != "published"
        ]
        return pandas.DataFrame(rows)

    def _value(self, name: str) -> str:
        """What a parameter comes to, in all searches of the page."""
        value = getattr(self, name)
        if value is not None:
            return str(value)
        several = [configs for arms in self._configs.values() for configs in arms.values()]
        if name in OVERRIDES:
            values = [getattr(config, name) for configs in several for config in configs[:1]]
        else:
            values = [len(configs) for configs in several] if name == "seeds" else ["automatic"]
        return ", ".join(map(str, dict.fromkeys(values)))


def _range(schema: dict[str, Any]) -> str:
    """What is allowed, from a parameter's JSON schema."""
    schema |= schema.get("anyOf", [{}])[0]
    if "enum" in schema:
        return ", ".join(schema["enum"])
    return ", ".join(f"{sign} {schema[key]:,}" for key, sign in SIGNS.items() if key in schema)
