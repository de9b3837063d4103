"""A rehearsal: mistakes in a framework of one's own, each in one line, before any work."""

import torch
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.engine.random import own_global_randomness
from nascore.engine.space import Wiring
from nascore.errors import ConfigError
from nascore.frameworks.base import LEARNERS
from nascore.plugins import failure
from nascore.runs.algorithm import Search
from nascore.runs.config import SearchConfig


def rehearse(config: SearchConfig) -> None:
    """Runs the first and the last epoch, of one step each, and the choice on four random images.

    Raises ConfigError: which of the framework's methods fails, and on which line; or what is wrong
    with what it returns.
    """
    search_examples = 4 if config.level == "bi" and config.search_set == "held out" else None
    small = config.replace(
        dataset="synthetic",
        image_size=None,
        train_examples=4,
        search_examples=search_examples,
        valid_examples=0,
        batch_size=4,
        augment=False,
        cells=1,
        device="cpu",
        compile=False,
        amp=False,
    )
    name = type(config.make_framework()).__name__
    try:
        with own_global_randomness():
            search = Search(small)
            for epoch in sorted({1, config.epochs}):
                search.epochs_done = epoch - 1
                check(search)
                search.epoch()
            if not isinstance(wiring := search.choose(), Wiring | None):
                raise ConfigError(f"choose returns {type(wiring).__name__}, not a Wiring.")
    except ConfigError as error:
        raise ConfigError(f"framework {name}: {error}") from None
    except Exception as error:  # a framework of one's own is any code
        why = failure(type(config.make_framework()), error)
        raise ConfigError(f"framework {name} fails, {why}") from error


def check(search: Search) -> None:
    """Compares what a framework returns with what a step needs. Raises ConfigError."""
    framework, mask = search.framework, search.draw()
    if not isinstance(mask, Mask):
        raise ConfigError(f"draw returns {type(mask).__name__}, not a Mask.")
    logits, labels = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    cost = torch.zeros(1, *shape(search))
    seen = search.context(LEARNERS, mask=mask, logits=logits, labels=labels, cost=cost)
    probability = framework.probability(seen).detach()
    for name, value in {
        "weight of its mask": mask.weight,
        "score of its mask": mask.score,
        "cost_scale of its mask": mask.cost_scale,
        "probability": probability,
        "cost": framework.cost(seen),
    }.items():
        if tuple(value.shape) != shape(search):
            wanted = f"{shape(search)}: (edges, operations)"
            raise ConfigError(f"{name} is {tuple(value.shape)}, not {wanted}.")
        if name != "score of its mask" and not value.isfinite().all():
            raise ConfigError(f"{name} is NaN or infinite in epoch {seen.epoch}.")
    check_mask(search, mask)
    total = probability.sum(dim=1)
    if (probability < 0).any() or (probability > 1.00001).any():
        low, high = probability.min(), probability.max()
        raise ConfigError(f"probability is from {low:.3g} to {high:.3g}, not from 0 to 1.")
    if framework.normalised and (total - 1).abs().max() > 1e-4:
        raise ConfigError(
            f"probability sums to {total.tolist()} over the operations of each edge, not to 1. "
            "If operations do not compete, set normalised = False."
        )
    penalty = framework.penalty(seen)
    if penalty is not None and penalty.shape != ():
        raise ConfigError(f"penalty is {tuple(penalty.shape)}, not a scalar.")
    if penalty is not None and not penalty.isfinite():
        raise ConfigError(f"penalty is {penalty.item()} in epoch {seen.epoch}.")
    if penalty is not None and not penalty.requires_grad:
        raise ConfigError("penalty does not depend on what is learned, so it cannot teach it.")
    check_state(search.state, framework.next_state(seen))
    known = {*search.learned, *search.state}
    for name in set(framework.recorded) - known:
        raise ConfigError(f"recorded has {name!r}, but only {sorted(known)} can be recorded.")


def shape(search: Search) -> tuple[int, int]:
    return len(search.space.edges), len(search.space.operations)


def check_mask(search: Search, mask: Mask) -> None:
    """Compares the rows of a mask with the search space."""
    for name in ("active", "gradient_only"):
        rows = getattr(mask, name)
        if rows is not None and len(rows) != len(search.space.edges):
            edges = f"{len(search.space.edges)}, one for each edge"
            raise ConfigError(f"{name} of its mask has {len(rows)} rows, not {edges}.")
        for row, choices in zip(rows or (), search.space.choices, strict=bool(rows)):
            if not set(row) <= set(choices):
                raise ConfigError(f"{name} of its mask has {list(row)}, allowed: {list(choices)}.")
    if mask.one_hot:
        rows = zip(mask.weight, mask.running(search.space), strict=True)
        runs = torch.cat([weights[list(row)] for weights, row in rows])
        if (runs != 1).any():
            raise ConfigError(
                f"its mask is one_hot, but what runs has weights {sorted(set(runs.tolist()))}, "
                "not 1. Leave one_hot out."
            )


def check_state(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Compares what is remembered after a step with what was before."""
    if set(after) != set(before):
        raise ConfigError(f"next_state returns {sorted(after)}, but state has {sorted(before)}.")
    for name, value in after.items():
        forms = [f"{tuple(v.shape)} of {v.dtype}" for v in (value, before[name])]
        if forms[0] != forms[1]:
            raise ConfigError(f"next_state returns {name!r} as {forms[0]}, state as {forms[1]}.")
