"""The paper's experiments by name and profile: which searches each of them needs.

An experiment has arms, which differ in one thing, and every arm has the same seeds. Experiments
share searches: what two of them need is run once (the store sees to it).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nascore.config import SearchConfig
from nascore.errors import ConfigError, unknown
from nascore.parallel import sweep
from nascore.records import Run, RunStore

Arms = dict[str, list[SearchConfig]]

PROFILES = ("smoke", "laptop", "paper")
"""smoke: seconds, for tests. laptop: digits, minutes on two cores. paper: the authors' protocol."""

SEEDS = {"smoke": 3, "laptop": 3, "paper": 3}

_TINY = {
    "dataset": "digits",
    "augment": False,
    "cells": 2,
    "channels": 4,
    "batch_size": 48,
    "train_examples": 96,
    "epochs": 2,
    "alpha_mean": 0.0,
}

_WIRING = {
    "smoke": _TINY,
    "laptop": {
        "dataset": "digits",
        "augment": False,
        "cells": 4,
        "channels": 8,
        "train_examples": 1152,
        "valid_examples": 576,
        "epochs": 60,
        "lr": 0.2,
        "arch_lr": 0.01,
        "alpha_mean": 0.0,
    },
    "paper": {},
}

_FAILURE = {
    "smoke": {**_TINY, "framework": "darts", "search_examples": 96, "label_noise": 0.6},
    "laptop": {
        "framework": "darts",
        "dataset": "digits",
        "augment": False,
        "cells": 4,
        "channels": 8,
        "train_examples": 288,
        "search_examples": 288,
        "epochs": 50,
        "lr": 0.05,
        "arch_lr": 0.025,
        "alpha_mean": 0.0,
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
    return {"single-level": _seeds(_WIRING, profile, seeds, changes)}


def width_preference(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P2: which edges the same searches keep."""
    return growing(profile, seeds, **changes)


def bilevel_failure(profile: str, seeds: int | None = None, **changes: Any) -> Arms:
    """P3: the same search on one level and on two, and on two without label noise as control.

    Where the profile has no label noise to take away (paper), there is no control.
    """
    bilevel = _seeds(_FAILURE, profile, seeds, {**changes, "level": "bi"})
    arms = {
        "bi-level": bilevel,
        "single-level": [config.replace(level="single") for config in bilevel],
    }
    if bilevel[0].label_noise:
        arms["control"] = [config.replace(label_noise=0.0) for config in bilevel]
    return arms


EXPERIMENTS = {
    "growing": growing,
    "width_preference": width_preference,
    "bilevel_failure": bilevel_failure,
}


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
    """Runs an experiment, or loads what the store has of it.

    Arguments:
        name: a key of EXPERIMENTS.
        profile: one of PROFILES.
        seeds: number of seeds in each arm; None takes the profile's.
        changes: fields of SearchConfig that override the profile; None values are left out.
        store: where records are kept.
        workers: processes at a time.
        progress: show a bar.

    Returns the runs of each arm, by seed. Raises ConfigError before any work.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(unknown("experiment", name, EXPERIMENTS))
    changes = {field: value for field, value in (changes or {}).items() if value is not None}
    arms = EXPERIMENTS[name](profile, seeds, **changes)
    configs = [config for arm in arms.values() for config in arm]
    runs = iter(sweep(configs, store=store, workers=workers, progress=progress))
    return {arm: [next(runs) for _ in configs] for arm, configs in arms.items()}


def _seeds(settings: Mapping, profile: str, seeds: int | None, changes: Mapping) -> list:
    """One config for each seed, 0, 1, 2, ..."""
    if profile not in PROFILES:
        raise ConfigError(unknown("profile", profile, PROFILES))
    seeds = SEEDS[profile] if seeds is None else seeds
    if seeds < 1:
        raise ConfigError(f"seeds={seeds}: an experiment needs at least 1.")
    base = SearchConfig(**{**settings[profile], **changes})
    return [base.replace(seed=base.seed + offset) for offset in range(seeds)]
