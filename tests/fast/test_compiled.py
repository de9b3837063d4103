"""Modules through torch.compile: what they compute, and how seldom it is compiled."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from nascore import SearchConfig
from nascore.fast import compiled
from nascore.frameworks import FRAMEWORKS
from nascore.runs import Search

OPERATIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_5x5")
BASE = dict(operations=OPERATIONS, dataset="digits", augment=False, cells=2, channels=8)
BASE |= dict(batch_size=32, train_examples=64, search_examples=64, level="bi")


def check(config, steps=4):
    """Logits and cost of steps, and theta after them, are those without compiling, in float64."""
    pair = (config.replace(compile=compile) for compile in (False, True))
    one, other = (Search(config, dtype=torch.float64) for config in pair)
    for n in range(steps):
        learns, split = (["alpha"], "search") if n % 2 else (["theta"], "train")
        seen = [s.step(s.batch(split), learns) for s in (one, other)]
        for name in ("logits", "cost"):
            a, b = (getattr(result, name) for result in seen)
            assert (a - b).abs().max() <= 1e-9
    for p, q in zip(one.theta, other.theta, strict=True):
        assert (p - q).abs().max() <= 1e-9


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_kind_is_compiled_once_and_serves_every_mask_of_every_framework(monkeypatch):
    """Without the last stage of the compiler, which writes C++ or Triton."""
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: plain(f, backend="aot_eager", **how))
    compiled._compiled.cache_clear()
    counters.clear()
    for framework in FRAMEWORKS:
        if not FRAMEWORKS[framework].dense:
            check(SearchConfig(framework=framework, **BASE))
    # Preprocessing of two widths, four operations: with a gradient of Z or without, in two modes.
    graphs = counters["stats"]["unique_graphs"]
    assert 6 <= graphs <= 24 and not counters["graph_break"]
    check(SearchConfig(framework="dsnas", seed=1, **BASE))
    assert counters["stats"]["unique_graphs"] == graphs
    for framework in ("darts", "pcdarts"):  # of which whole cells are compiled
        check(SearchConfig(framework=framework, **BASE))
    compiled._compiled.cache_clear()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_operations_are_the_same_functions():
    """By the whole compiler."""
    operations = ("none", "avg_pool_3x3", "dil_conv_3x3")
    check(SearchConfig(framework="dsnas", **{**BASE, "operations": operations}), steps=2)
