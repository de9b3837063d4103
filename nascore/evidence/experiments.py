"""The paper's experiments: which searches each of them needs.

An experiment has arms. Those that a claim compares differ in one thing, and all have the same
seeds. A search that two experiments need is run once. An experiment of your own is a decorated
function, in a notebook or in a module that is found as "module:name".
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from beartype.door import is_bearable

from nascore.engine.space import edge_name
from nascore.errors import TYPES, ConfigError, RecordError, checked, shown, unknown
from nascore.evidence import profiles
from nascore.folders import shipped
from nascore.plugins import Registry
from nascore.runs.config import SearchConfig
from nascore.runs.run import Run
from nascore.sweeps.parallel import sweep
from nascore.sweeps.store import RunStore

Configs = dict[str, list[SearchConfig]]
"""The searches of an experiment: for each arm, a config for each seed."""

Experiment = Callable[..., dict[str, SearchConfig]]
"""From a config, and the name of its profile if it asks for that, to a config for each arm."""

ONE = "one level"
TWO = "two levels"
ONE_OF_FEWER = "one level, fewer examples"
NOT_HELD_OUT = "two levels, nothing held out"
"""The arms of `picture`."""

EXPERIMENTS = Registry(
    "experiment",
    lambda made: None if hasattr(made, "settings") else "decorate it with @experiment(settings).",
)
"""Every experiment by its name."""


@checked
def experiment(
    settings: Mapping[str, Mapping[str, Any]], *, seeds: Mapping[str, int] = profiles.SEEDS
) -> Callable[[Experiment], Experiment]:
    """Registers the decorated function, which turns one config into one for each arm, by its name.

    A second argument of the function, if it has one, is the name of the profile. Every arm gets the
    seed of its config and those that follow it.

    Arguments:
        settings: fields of SearchConfig by profile, such as those of nascore.evidence.profiles.
        seeds: number of seeds in each arm, by profile.

    Raises ConfigError for settings of a profile without a number of seeds.
    """
    for profile in settings:
        if profile not in seeds:
            raise ConfigError(f"seeds={dict(seeds)}: say how many for profile {profile!r}.")

    def add(arms: Experiment) -> Experiment:
        arms.settings, arms.seeds = settings, seeds
        return EXPERIMENTS.register(arms.__name__)(arms)

    return add


@experiment(profiles.PICTURE, seeds=profiles.PICTURE_SEEDS)
def picture(base, profile):
    """P1, P2, P3 and O1: one setting, in which the level and what is held out are switched."""
    train, search, watched = profiles.FEWER[profile]
    steps = base.epochs * base.sizes["train"]  # times the batch size: the same in all arms
    fewer = base.replace(train_examples=train, valid_examples=0, epochs=steps // train)
    return {
        ONE: base,
        TWO: fewer.replace(level="bi", search_examples=search),
        ONE_OF_FEWER: fewer.replace(search_examples=watched),
        NOT_HELD_OUT: fewer.replace(level="bi", search_set="train"),
    }


@experiment(profiles.IN_DARTS)
def picture_in_darts(base):
    """P3 where the paper saw it."""
    two = base.replace(framework="darts", level="bi")
    return {
        TWO: two,
        NOT_HELD_OUT: two.replace(search_set="train", search_examples=None),
        ONE: two.replace(level="single", search_examples=None),
    }


@experiment(profiles.UNIFORM)
def cost_at_init_and_convergence(base):
    """A1: the cost under uniform masks, from theta's initialisation to near its convergence."""
    return {"uniform masks": base.replace(freeze_alpha=True)}


@experiment(profiles.UNIFORM)
def right_and_wrong(base, profile):
    """A5: two levels under uniform masks, with a search set that is held out, and with none."""
    arms = picture(base.replace(freeze_alpha=True), profile)
    return {arm: arms[arm] for arm in (TWO, NOT_HELD_OUT)}


@experiment(profiles.UNIFORM)
def training_opportunity(base):
    """A6: edge (1,3) against the chain (1,2), (2,3), whose first operation is free or fixed."""
    only_chain = {"(0,2)": ["none"], "(0,3)": ["none"]}
    free = base.replace(freeze_alpha=True, output_nodes=[3], allowed=only_chain)
    fixed = free.replace(allowed={**free.allowed, "(1,2)": ["sep_conv_5x5"]})
    return {"free": free, "fixed": fixed}


@experiment(profiles.EXPLORED, seeds=profiles.FEWER_SEEDS)
def more_cells(base):
    """A2 and A4, and P2 in deeper networks: the picture's search on one level in 2 and 4 cells."""
    return {f"{cells} cells": base.replace(cells=cells) for cells in (2, 4)}


@experiment(profiles.SMALL, seeds=profiles.FEWER_SEEDS)
def path_cost(base):
    """A3: the cost that passes an intermediate edge, with and without skip_connect on it."""
    base = base.replace(freeze_alpha=True)
    others = [name for name in base.operations if name != "skip_connect"]
    inner = {edge_name(edge): others for edge in base.space.intermediate_edges}
    return {"with skip_connect": base, "without": base.replace(allowed=inner)}


@experiment(profiles.ELSEWHERE, seeds=profiles.FEWER_SEEDS)
def elsewhere(base, profile):
    """No claim: the first two arms of the picture in other frameworks, cells and code."""
    arms = picture(base, profile)
    one, two = arms[ONE], arms[TWO]
    released = {"framework": "dsnas-released", "decay_unsampled": True, "stem_affine": True}
    snas = SearchConfig(**profiles.IN_DARTS[profile]).replace(framework="snas", seed=base.seed)
    return {
        "ProxylessNAS, one level": one.replace(framework="proxylessnas"),
        "ProxylessNAS, two levels": two.replace(framework="proxylessnas"),
        "GDAS, one level": one.replace(framework="gdas"),
        "GDAS, two levels": two.replace(framework="gdas"),
        "SNAS, one level": snas.replace(search_examples=None),
        "SNAS, two levels": snas.replace(level="bi"),
        "normal cell, one level": one.replace(nodes=4),
        "normal cell, two levels": two.replace(nodes=4),
        "released code, one level": one.replace(**released),
        "released code, two levels": two.replace(**released, search_order="anew"),
    }


@experiment(profiles.ELSEWHERE, seeds=profiles.FEWER_SEEDS)
def label_noise(base, profile):
    """No claim: the picture's search on two levels with a share of all labels replaced."""
    two = picture(base, profile)[TWO]
    return {f"noise {share}": two.replace(label_noise=share) for share in (0.2, 0.4)}


@experiment(profiles.ELSEWHERE, seeds={"published": 1})
def learning_rates(base):
    """No claim: how far alpha can move while L - H is above 0, and after."""
    return {
        f"lr {lr}, arch_lr {arch_lr}": base.replace(lr=lr, arch_lr=arch_lr)
        for lr in (0.03, 0.1, 0.3)
        for arch_lr in (0.001, 0.003, 0.01, 0.03)
    }


@experiment(profiles.FIRST, seeds=profiles.SEEDS)
def tried_first(first):
    """What the book showed before: P1 and P2 in 8 cells, P3 in DARTS with and without noise."""
    data = {"train_examples": 480, "search_examples": 480, "valid_examples": 0}
    noisy = first.replace(
        framework="darts", cells=4, channels=8, epochs=36, arch_lr=0.04, label_noise=0.6, **data
    )
    two = noisy.replace(level="bi")
    return {
        "8 cells, one level": first,
        "label noise, two levels": two,
        "label noise, one level": noisy,
        "no label noise, two levels": two.replace(label_noise=0.0),
    }


@checked
def configs_of(
    name: str,
    profile: str,
    *,
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    arms: Collection[str] | None = None,
) -> Configs:
    """The searches of an experiment of the package, or of your own ("module:name"), arm by arm.

    Arguments:
        seeds: number of seeds in each arm; None takes the profile's.
        changes: fields of SearchConfig that override the profile.
        arms: those to return, in this order; None returns all.

    Raises ConfigError for an unknown name or an impossible setting.
    """
    build, changes = EXPERIMENTS[name], changes or {}
    if profile not in build.settings:
        raise ConfigError(unknown("profile", profile, build.settings))
    if seeds is not None and not 1 <= seeds <= 10_000:
        raise ConfigError(f"seeds={shown(seeds)}: give a number from 1 to 10,000.")
    settings, asks = build.settings[profile], len(signature(build).parameters) > 1
    names = [profile] if asks else []
    base = SearchConfig(**{**settings, **changes})
    made = build(base, *names)
    if not (made and is_bearable(made, dict[str, SearchConfig], conf=TYPES)):
        raise ConfigError(f"experiment {name!r} returns {shown(made)}, not a config for each arm.")
    unchanged = build(SearchConfig(**settings), *names) if changes else made
    for field, value in changes.items():
        before, after = ([getattr(c, field) for c in of.values()] for of in (unchanged, made))
        if before == after and getattr(base, field) not in (*after, settings.get(field)):
            itself = f"experiment {name!r} sets it itself. Leave it out."
            raise ConfigError(f"{field}={value!r}: {itself}")
    for arm in set(arms or ()) - made.keys():
        raise ConfigError(unknown("arm", arm, made))
    numbers, first = range(seeds or build.seeds[profile]), {arm: made[arm] for arm in arms or made}
    return {arm: [c.replace(seed=c.seed + n) for n in numbers] for arm, c in first.items()}


def searches(
    profile: str,
    names: Sequence[str] = tuple(EXPERIMENTS),
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[SearchConfig]:
    """The searches of those experiments that have the profile; what two share is in it twice.

    Raises ConfigError if none has it. Arguments: see ``configs_of``.
    """
    have = [name for name in names if profile in EXPERIMENTS[name].settings] or names[:1]
    arms = [configs_of(name, profile, seeds=seeds, changes=changes) for name in have]
    return [config for configs in arms for config in flat(configs)]


@checked
def run_experiment(
    configs: Configs, *, store: RunStore | str | Path = "runs", workers: int | None = None
) -> dict[str, list[Run]]:
    """Runs the searches of ``configs_of``, or loads those that the store or the book has.

    Returns the runs of each arm, by seed. For the number of ``workers`` see ``sweep``.
    """
    runs = iter(sweep(flat(configs), store=open_store(store), workers=workers))
    return {arm: [next(runs) for _ in several] for arm, several in configs.items()}


def open_store(store: RunStore | str | Path) -> RunStore:
    """The records of a folder and those that come with the book; a store stays as it is."""
    return store if isinstance(store, RunStore) else RunStore(store, shipped("book/records"))


@checked
def recorded(name: str, store: RunStore | str | Path = "runs") -> dict[str, list[Run]]:
    """The runs of an experiment in the profile `published`, arm by arm: none is made.

    Raises RecordError if neither the book nor the store has one.
    """
    arms = load_experiment(name, "published", store := open_store(store))
    if arms is None:
        command = f"python -m nascore sweep {name} --profile published --store {store.folder}"
        raise RecordError(f"records of {name!r} are missing: `{command}` makes them, in an hour.")
    return arms


def load_experiment(name: str, profile: str, store: RunStore) -> dict[str, list[Run]] | None:
    """The runs of an experiment that a store has, arm by arm; None if one is missing.

    The profile's seeds, and those that follow them as far as all arms have them.
    """
    if profile not in EXPERIMENTS[name].settings:
        return None
    arms = configs_of(name, profile)
    seeds = max(map(len, arms.values()))
    while all(map(store.get, flat(more := configs_of(name, profile, seeds=seeds + 1)))):
        arms, seeds = more, seeds + 1
    runs = {arm: [store.get(config) for config in configs] for arm, configs in arms.items()}
    return None if None in flat(runs) else runs


def flat(arms: Mapping[str, list]) -> list:
    """The configs or runs of all arms, one after the other."""
    return [one for arm in arms.values() for one in arm]
