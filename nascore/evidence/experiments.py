"""The paper's experiments by name and profile: which searches each of them needs.

An experiment has arms, which differ in one thing, and every arm has the same seeds. Experiments
share searches: what two of them need is run once (the store sees to it).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nascore.engine.space import edge_name
from nascore.errors import ConfigError, unknown
from nascore.folders import shipped_records
from nascore.runs.config import SearchConfig
from nascore.runs.parallel import sweep
from nascore.runs.run import Run
from nascore.runs.store import RunStore

Arms = dict[str, list[SearchConfig]]

PROFILES = ("smoke", "laptop", "published", "paper")
"""smoke: seconds, for tests. laptop: digits, minutes on two cores. published: Fashion-MNIST, hours
on two cores; its records come with the book. paper: the authors' protocol, on a GPU."""

SEEDS = {"smoke": 3, "laptop": 3, "published": 8, "paper": 3}
FEWER_SEEDS = {"smoke": 2, "laptop": 2, "published": 5, "paper": 3}
"""Seeds of the experiments that look across settings, and of A3, which is no test."""

_DIGITS = {"dataset": "digits", "augment": False, "alpha_mean": 0.0}
_FASHION = {
    "dataset": "fashion-mnist",
    "image_size": 14,
    "augment": False,
    "alpha_mean": 0.0,
    "alpha_std": 0.0,
}
_TINY = {
    **_DIGITS,
    "cells": 2,
    "channels": 4,
    "batch_size": 48,
    "train_examples": 96,
    "epochs": 2,
}

_WIRING = {
    "smoke": _TINY,
    "laptop": {
        **_DIGITS,
        "cells": 4,
        "channels": 8,
        "train_examples": 1152,
        "valid_examples": 576,
        "epochs": 60,
        "lr": 0.2,
        "arch_lr": 0.01,
    },
    "published": {
        **_FASHION,
        "cells": 8,
        "channels": 16,
        "train_examples": 2400,
        "valid_examples": 480,
        "epochs": 40,
        "lr": 0.05,
        "arch_lr": 0.03,
    },
    "paper": {},
}
"""Single-level searches: growing, width, and what shares their runs."""

_SMALL = {
    "smoke": _TINY,
    "laptop": {
        **_WIRING["laptop"],
        "cells": 2,
        "train_examples": 576,
        "valid_examples": 0,
        "epochs": 30,
    },
    "published": {
        **_WIRING["published"],
        "cells": 4,
        "channels": 8,
        "train_examples": 960,
        "valid_examples": 0,
        "epochs": 30,
    },
    "paper": {},
}
"""The same searches in smaller networks, for looking across cells, rates and operations."""

_ACROSS = {
    **_SMALL,
    "laptop": {**_SMALL["laptop"], "epochs": 10},
    "published": {**_SMALL["published"], "epochs": 20},
}
"""And shorter where a dense framework makes them dear."""

_UNIFORM = {
    "smoke": _TINY,
    "laptop": {**_SMALL["laptop"], "train_examples": 1152, "lr": 0.05},
    "published": {**_SMALL["published"], "train_examples": 2400, "epochs": 40, "lr": 0.03},
    "paper": {},
}
"""Searches with alpha frozen and masks drawn uniformly, for cost at rest."""

_FAILURE = {
    "smoke": {**_TINY, "framework": "darts", "search_examples": 96, "label_noise": 0.6},
    "laptop": {
        **_DIGITS,
        "framework": "darts",
        "cells": 4,
        "channels": 8,
        "train_examples": 288,
        "search_examples": 288,
        "epochs": 36,
        "lr": 0.05,
        "arch_lr": 0.025,
        "label_noise": 0.6,
    },
    "published": {
        **_FASHION,
        "framework": "darts",
        "cells": 4,
        "channels": 8,
        "train_examples": 480,
        "search_examples": 480,
        "epochs": 36,
        "lr": 0.05,
        "arch_lr": 0.04,
        "label_noise": 0.6,
    },
    "paper": {
        "framework": "darts",
        "train_examples": 25_000,
        "search_examples": 25_000,
        "epochs": 50,
        "alpha_mean": 0.0,
        "alpha_std": 1e-3,
        "cost_clamp": None,
        "arch_grad_clip": None,
    },
}


def growing(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P1: single-level search, watched from the first epoch to the last."""
    return {"single-level": _seeds(_WIRING, SEEDS, profile, seeds, changes)}


def width_preference(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P2: which edges the same searches keep."""
    return growing(profile, seeds, **changes)


def across_frameworks(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P1 and P2 in discrete and dense frameworks, in the minimal and the normal cell."""
    base = _seeds(_ACROSS, FEWER_SEEDS, profile, seeds, changes)
    return {
        f"{framework.upper()}, {cell} cell": [c.replace(framework=framework, nodes=n) for c in base]
        for cell, n in (("minimal", 2), ("normal", 4))
        for framework in ("dsnas", "snas", "darts")
    }


LR = (0.03, 0.1, 0.3)
ARCH_LR = (0.003, 0.01, 0.03)


def learning_rates(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P1 and its knob: the learning rates of theta and alpha against each other."""
    base = _seeds(_SMALL, FEWER_SEEDS, profile, seeds, changes)
    return {
        f"lr {lr}, arch_lr {arch_lr}": [c.replace(lr=lr, arch_lr=arch_lr) for c in base]
        for lr in LR
        for arch_lr in ARCH_LR
    }


def bilevel_failure(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P3: the same search on one level and on two, and on two without label noise as control.

    Where the profile has no label noise to take away (paper), there is no control.
    """
    bilevel = _seeds(_FAILURE, SEEDS, profile, seeds, {**changes, "level": "bi"})
    arms = {
        "bi-level": bilevel,
        "single-level": [config.replace(level="single") for config in bilevel],
    }
    if bilevel[0].label_noise:
        arms["control"] = [config.replace(label_noise=0.0) for config in bilevel]
    return arms


NOISE = (0.0, 0.3, 0.6)


def label_noise(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P3 and the dial of its cause: how many edges bi-level search loses to how much noise."""
    base = _seeds(_FAILURE, FEWER_SEEDS, profile, seeds, {**changes, "level": "bi"})
    return {f"noise {share}": [c.replace(label_noise=share) for c in base] for share in NOISE}


def failure_of_dsnas(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P3 in a discrete framework, with only the level switched."""
    return bilevel_failure(profile, seeds, **{**changes, "framework": "dsnas"})


def cost_at_init_and_convergence(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A1: the cost under uniform masks, from theta's initialisation to near its convergence."""
    uniform = _seeds(_UNIFORM, SEEDS, profile, seeds, {**changes, "freeze_alpha": True})
    return {"uniform masks": uniform}


def sum_rule(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A2: what the output costs in all, in the searches of growing."""
    return growing(profile, seeds, **changes)


def path_cost(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A3: the cost that passes an intermediate edge, with and without skip_connect on it."""
    base = _seeds(_SMALL, FEWER_SEEDS, profile, seeds, {**changes, "freeze_alpha": True})
    others = [name for name in base[0].operations if name != "skip_connect"]
    inner = {edge_name(edge): others for edge in base[0].space.intermediate_edges}
    return {"with skip_connect": base, "without": [c.replace(allowed=inner) for c in base]}


def cell_sums(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A4: what each cell costs in all, in the searches of growing."""
    return growing(profile, seeds, **changes)


def right_and_wrong(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A5: loss and entropy of right and wrong answers, in the searches of the failure."""
    return bilevel_failure(profile, seeds, **changes)


def training_opportunity(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A6: edge (1,3) against the chain (1,2), (2,3), whose first operation is free or fixed."""
    removed = {"(0,2)": ["none"], "(0,3)": ["none"]}
    chain = {"output_nodes": [3], "allowed": removed, "freeze_alpha": True}
    free = _seeds(_SMALL, SEEDS, profile, seeds, {**changes, **chain})
    fixed = {**removed, "(1,2)": ["sep_conv_5x5"]}
    return {"free": free, "fixed": [config.replace(allowed=fixed) for config in free]}


def deep_linear(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """A7: linear chains, closed form against measurement (``linear.py``); it needs no search."""
    return {}


EXPERIMENTS: dict[str, Callable[..., Arms]] = {
    experiment.__name__: experiment
    for experiment in (
        growing,
        width_preference,
        bilevel_failure,
        across_frameworks,
        learning_rates,
        label_noise,
        failure_of_dsnas,
        cost_at_init_and_convergence,
        sum_rule,
        path_cost,
        cell_sums,
        right_and_wrong,
        training_opportunity,
        deep_linear,
    )
}


def configs_of(
    name: str,
    profile: str,
    *,
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Arms:
    """The searches of an experiment, arm by arm. Raises ConfigError. Arguments: run_experiment."""
    if name not in EXPERIMENTS:
        raise ConfigError(unknown("experiment", name, EXPERIMENTS))
    if profile not in PROFILES:
        raise ConfigError(unknown("profile", profile, PROFILES))
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds={seeds}: an experiment needs at least 1.")
    changes = {field: value for field, value in (changes or {}).items() if value is not None}
    return EXPERIMENTS[name](profile, seeds, **changes)


def searches(
    profile: str, names: Iterable[str] = tuple(EXPERIMENTS), seeds: int | None = None
) -> list[SearchConfig]:
    """The searches of several experiments; what two of them share is in it twice."""
    return [config for name in names for config in flat(configs_of(name, profile, seeds=seeds))]


def run_experiment(
    name: str,
    profile: str = "laptop",
    *,
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    store: RunStore | str | Path = "runs",
    workers: int = 2,
    progress: bool = True,
) -> dict[str, list[Run]]:
    """Runs an experiment, or loads what the store or the book has of it.

    Arguments:
        name: a key of EXPERIMENTS.
        profile: one of PROFILES.
        seeds: number of seeds in each arm; None takes the profile's.
        changes: fields of SearchConfig that override the profile; None values are left out.
        store: where records are kept. With a folder, those that come with the book are found, too.
        workers: processes at a time.
        progress: show a bar.

    Returns the runs of each arm, by seed. Raises ConfigError before any work.
    """
    arms = configs_of(name, profile, seeds=seeds, changes=changes)
    if not isinstance(store, RunStore):
        store = RunStore(store, shipped_records())
    runs = sweep(flat(arms), store=store, workers=workers, progress=progress)
    return _in_arms(arms, runs)


def load_experiment(name: str, profile: str, store: RunStore) -> dict[str, list[Run]] | None:
    """The runs of an experiment that a store has, arm by arm; None if one is missing.

    The profile's seeds, and those that follow them as far as all arms have them.
    """
    arms = configs_of(name, profile)
    seeds = max(map(len, arms.values()), default=0)
    while seeds and store.has(flat(more := configs_of(name, profile, seeds=seeds + 1))):
        arms, seeds = more, seeds + 1
    runs = [store.get(config) for config in flat(arms)]
    return None if None in runs else _in_arms(arms, runs)


def flat(arms: Arms) -> list[SearchConfig]:
    """The configs of all arms, one after the other."""
    return [config for configs in arms.values() for config in configs]


def _in_arms(arms: Arms, runs: Sequence[Run]) -> dict[str, list[Run]]:
    rest = iter(runs)
    return {arm: [next(rest) for _ in configs] for arm, configs in arms.items()}


def _seeds(
    settings: Mapping, numbers: Mapping, profile: str, seeds: int | None, changes: Mapping
) -> list[SearchConfig]:
    """One config for each seed, 0, 1, 2, ..."""
    base = SearchConfig(**{**settings[profile], **changes})
    return [base.replace(seed=base.seed + n) for n in range(seeds or numbers[profile])]
