"""Mistakes in a framework of one's own: each is one line, before any work."""

from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nascore import search
from nascore.engine import Mask, operation
from nascore.errors import ConfigError, DataError
from nascore.frameworks import DARTS, Framework, framework
from nascore.runs import dataset
from nascore.runs.algorithm import Search

SHAPE = r"not \(5, 8\): \(edges, operations\)"


def darts(**members):
    """DARTS with other members, as somebody's own class."""
    kind = type("Mine", (DARTS,), {**members, "__module__": __name__})
    return framework("mine")(kind)


def masks(change):
    """A draw whose mask is that of DARTS, changed."""

    def draw(self, context):
        score = context.alpha.log_softmax(dim=1)
        return change(score.detach().exp(), score)

    return {"draw": draw}


def with_nan(weight):
    return torch.where(weight == weight.max(), torch.nan, weight)


def remembering(after, start=0):
    """A state of one number, and what it is after a step."""
    return {
        "state": lambda self, space: {"seen": torch.tensor(start)},
        "next_state": lambda self, context: after(context.state["seen"]),
    }


MISTAKES = {
    "no mask": (
        {"draw": lambda self, context: context.alpha.softmax(dim=1)},
        "draw returns Tensor, not a Mask",
    ),
    "a choice that is no wiring": (
        {"choose": lambda self, search, batches: ["none"] * 5},
        "choose returns list, not a Wiring",
    ),
    "a slip in the choice": (
        {"choose": lambda self, search, batches: search.acuracy()},
        "fails, line .*: AttributeError: 'Search'",
    ),
    "old signature": (
        {"draw": lambda self, alpha, generator: None},
        "fails, TypeError: .*generator",
    ),
    "a slip": (
        {"draw": lambda self, context: context.alpha.sofmax()},
        "fails, line .*: AttributeError: 'Tensor'",
    ),
    "shape": (masks(lambda w, s: Mask(w.sum(dim=0), s)), rf"weight of its mask is \(8,\), {SHAPE}"),
    "nan": (masks(lambda w, s: Mask(with_nan(w), s)), "weight of its mask is NaN or infinite"),
    "detached score": (
        masks(lambda w, s: Mask(w, s.detach())),
        "the score does not depend on alpha",
    ),
    "not one-hot": (
        masks(lambda w, s: Mask(w, s, [[1]] * 5, one_hot=True)),
        r"its mask is one_hot, but what runs has weights \[0\.1.*not 1",
    ),
    "too few rows": (
        masks(lambda w, s: Mask(w, s, active=[[1]] * 3)),
        "active of its mask has 3 rows, not 5, one for each edge",
    ),
    "no such operation": (masks(lambda w, s: Mask(w, s, active=[[9]] * 5)), r"active .* has \[9\]"),
    "probability of a row": (
        {"probability": lambda self, context: context.alpha[0]},
        rf"probability is \(8,\), {SHAPE}",
    ),
    "probability above one": (
        {"probability": lambda self, context: context.alpha.exp()},
        "probability is from .* to 2.*, not from 0 to 1",
    ),
    "probability of more than one": (
        {"probability": lambda self, context: context.alpha.sigmoid()},
        r"probability sums to \[5\..* normalised = False",
    ),
    "cost of cells": (
        {"cost": lambda self, context: context.cost},
        rf"cost is \(1, 5, 8\), {SHAPE}",
    ),
    "penalty of entries": (
        {"penalty": lambda self, context: context.alpha},
        r"penalty is \(5, 8\), not a scalar",
    ),
    "detached penalty": (
        {"penalty": lambda self, context: context.alpha.detach().sum()},
        "penalty does not depend on what is learned",
    ),
    "division at the end": (
        {"penalty": lambda self, context: context.alpha.sum() * (1 / (1 - context.progress))},
        "fails, line .*: ZeroDivisionError",
    ),
    "another name": (
        remembering(lambda seen: {"sen": seen}),
        r"next_state returns {'sen': .*}, but state has {'seen': ",
    ),
    "another type": (
        remembering(lambda seen: {"seen": seen + 0.5}),
        r"next_state returns .*'\(\) of torch.float32'}, but state has .*'\(\) of torch.int64'}",
    ),
    "misspelt record": (
        {"recorded": {"betta": (("epoch", "edge"), "f4", "weight", "1")}},
        r"recorded has 'betta', but only \['alpha'\] can be recorded",
    ),
}


@pytest.mark.parametrize("members, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(members, message, tiny, monkeypatch):
    config, made = tiny.replace(framework=darts(**members)), Search.__init__

    def only_rehearsed(self, config, *rest):
        assert config.dataset == "synthetic" and config.cells == 1, "it has begun"
        made(self, config, *rest)

    monkeypatch.setattr(Search, "__init__", only_rehearsed)
    with pytest.raises(ConfigError, match=f"^framework Mine:? {message}") as error:
        search(config.replace(cells=2), progress=False)
    assert "\n" not in str(error.value)


def test_integers_stay_integers(tiny):
    kind = darts(**remembering(lambda seen: {"seen": seen + 1}))
    one = Search(tiny.replace(framework=kind))
    one.step(one.batch())
    assert one.state["seen"].dtype == torch.int64 and one.state["seen"] == 1


class Relaxed(Framework):
    """Draws from torch's global stream, as code from elsewhere does."""

    dense: ClassVar[bool] = True

    def draw(self, context):
        score = F.gumbel_softmax(context.alpha.log_softmax(dim=1)).log()
        return Mask(score.detach().exp(), score)


def dropped(channels, norm):
    return nn.Sequential(nn.Dropout(0.5), norm(channels))


def test_global_randomness_is_that_of_the_seed(tiny, tmp_path):
    """In draw and in an operation: equal records, also after a stop; the caller's is untouched."""

    operation("dropped")(dropped)
    config = tiny.replace(
        framework=Relaxed, operations=["none", "skip_connect", f"{__name__}:dropped"]
    )
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = search(config, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    torch.manual_seed(2)
    path, asked = tmp_path / "checkpoint", iter([False, False, False, True])
    with pytest.raises(KeyboardInterrupt):
        search(config, progress=False, checkpoint=path, stop=lambda: next(asked))
    other = search(config, progress=False, checkpoint=path)
    recomputed = search(config.replace(recompute=True), progress=False)
    for run in (other, recomputed):
        assert run.history.drop_vars("seconds").equals(one.history.drop_vars("seconds"))
    assert not one.history.equals(search(config.replace(seed=1), progress=False).history)


def test_a_dataset_that_changes_is_refused(tiny):
    def noise():
        labels = np.arange(200) % 4
        return np.random.default_rng().normal(size=(200, 1, 8, 8)).astype("f4"), labels

    noise = dataset("noise", examples=200, classes=4, channels=1)(noise)
    with pytest.raises(DataError, match="noise.* returns other examples each time"):
        search(tiny.replace(dataset=f"{__name__}:noise"), progress=False)


def test_what_has_no_mistake_passes(tiny):
    assert search(tiny.replace(framework=darts(), epochs=1), progress=False).wiring
