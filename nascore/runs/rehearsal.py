"""A rehearsal: mistakes in a framework of one's own, each in one line, before any work."""

from collections.abc import Iterator

import torch

from nascore.engine.mask import Mask
from nascore.engine.space import Wiring
from nascore.errors import ConfigError, in_one_line
from nascore.frameworks.base import LEARNERS
from nascore.runs.algorithm import Search
from nascore.runs.config import SearchConfig
from nascore.runs.randomness import own_global_randomness

TINY = dict(dataset="synthetic", image_size=None, augment=False, cells=1, device="cpu")
TINY |= dict(train_examples=4, valid_examples=0, batch_size=4, compile=False, amp=False)


def rehearse(config: SearchConfig) -> None:
    """Runs the first and the last epoch, of one step each, and the choice on four random images.

    Raises ConfigError: which of the framework's methods fails, and on which line; or what is wrong
    with what it returns.
    """
    small = config.replace(**TINY, search_examples=4 if config.sizes["search"] else None)
    name = type(config.make_framework()).__name__
    try:
        with own_global_randomness():
            search = Search(small)
            for epoch in sorted({1, config.epochs}):
                search.epochs_done = epoch - 1
                for mistake in mistakes(search):
                    raise ConfigError(mistake)
                search.epoch()
            if not isinstance(wiring := search.choose(), Wiring | None):
                raise ConfigError(f"choose returns {type(wiring).__name__}, not a Wiring.")
    except ConfigError as error:
        raise ConfigError(f"framework {name}: {error}") from None
    except Exception as error:  # a framework of one's own is any code
        why = in_one_line(error, type(config.make_framework()).__module__)
        raise ConfigError(f"framework {name} fails, {why}") from error


def mistakes(search: Search) -> Iterator[str]:
    """What a framework returns that a step cannot use. After the first, anything may fail."""
    framework, space, mask = search.framework, search.space, search.draw()
    if not isinstance(mask, Mask):
        yield f"draw returns {type(mask).__name__}, not a Mask."
    shape = len(space.edges), len(space.operations)
    logits, labels = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    cost = torch.zeros(1, *shape)
    now = search.context(LEARNERS, mask=mask, logits=logits, labels=labels, cost=cost)
    probability = framework.probability(now).detach()
    for name, value in {
        "weight of its mask": mask.weight,
        "score of its mask": mask.score,
        "cost_scale of its mask": mask.cost_scale,
        "probability": probability,
        "cost": framework.cost(now),
    }.items():
        if value.shape != shape:
            yield f"{name} is {tuple(value.shape)}, not {shape}: (edges, operations)."
        if name != "score of its mask" and not value.isfinite().all():
            yield f"{name} is NaN or infinite in epoch {now.epoch}."
    low, high, total = probability.min(), probability.max(), probability.sum(dim=1)
    if low < 0 or high > 1.00001:
        yield f"probability is from {low:.3g} to {high:.3g}, not from 0 to 1."
    if framework.normalised and (total - 1).abs().max() > 1e-4:
        sums = f"probability sums to {total.tolist()} over the operations of each edge, not to 1"
        yield f"{sums}. If operations do not compete, set normalised = False."

    rows_of = {"active": mask.running(space), "gradient_only": mask.gradient_only or space.choices}
    for name, rows in rows_of.items():
        if len(rows) != shape[0]:
            yield f"{name} of its mask has {len(rows)} rows, not {shape[0]}, one for each edge."
        for row, choices in zip(rows, space.choices, strict=True):
            if not set(row) <= set(choices):
                yield f"{name} of its mask has {list(row)}, allowed: {list(choices)}."
    if mask.one_hot:
        runs = zip(mask.weight.tolist(), mask.running(space), strict=True)
        if (weights := {weight[k] for weight, row in runs for k in row}) != {1}:
            wrong = f"its mask is one_hot, but what runs has weights {sorted(weights)}, not 1"
            yield f"{wrong}. Leave one_hot out."

    if (penalty := framework.penalty(now)) is not None:
        if penalty.shape != ():
            yield f"penalty is {tuple(penalty.shape)}, not a scalar."
        if not penalty.isfinite():
            yield f"penalty is {penalty.item()} in epoch {now.epoch}."
        if not penalty.requires_grad:
            yield "penalty does not depend on what is learned, so it cannot teach it."
    after, before = (
        {name: f"{tuple(value.shape)} of {value.dtype}" for name, value in state.items()}
        for state in (framework.next_state(now), search.state)
    )
    if after != before:
        yield f"next_state returns {after}, but state has {before}."
    known = {*search.learned, *search.state}
    for name in set(framework.recorded) - known:
        yield f"recorded has {name!r}, but only {sorted(known)} can be recorded."
