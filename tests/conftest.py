"""What many tests share: one thread, a small config, a small supernet in float64."""

from types import SimpleNamespace

import matplotlib
import pytest
import torch
import torch.nn.functional as F

from nascore import SearchConfig, SearchSpace, Supernet
from nascore.engine import local_cost, make_framework, stream

matplotlib.use("Agg")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny():
    """A search of about a second."""
    return SearchConfig(
        dataset="synthetic",
        train_examples=96,
        valid_examples=32,
        augment=False,
        cells=2,
        channels=4,
        batch_size=32,
        epochs=2,
        arch_lr=0.05,
    )


@pytest.fixture
def supernet():
    """Makes a supernet in float64, channels last, the same for the same arguments."""

    def make(space=None, **settings):
        torch.manual_seed(0)
        settings = {"classes": 5, "image_channels": 3, "cells": 2, "channels": 4, **settings}
        net = Supernet(space or SearchSpace.minimal(), **settings)
        return net.to(torch.float64, memory_format=torch.channels_last)

    return make


@pytest.fixture
def batch():
    """Images (12, 3, 6, 6) in float64, channels last, and labels (12,)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 6, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(5, (12,), generator=generator)
    return images.to(memory_format=torch.channels_last), labels


@pytest.fixture
def measure():
    """Makes a forward and a backward pass: logits, Z as a leaf, cost and output cost."""

    def measure(net, batch, mask):
        images, labels = batch
        z = mask.per_cell(len(net.cells))
        outputs = net.unit_weights(z)
        logits = net(images, z, mask, outputs)
        F.cross_entropy(logits, labels).backward()
        cost = local_cost(z.grad, mask)
        return SimpleNamespace(logits=logits.detach(), z=z, cost=cost, output_cost=outputs.grad)

    return measure


@pytest.fixture
def draw():
    """Draws a mask of a framework, by name, for a space; alpha is the usual start."""

    def draw(name, space, alpha, seed=0):
        framework = make_framework(name).on(space)
        return framework.mask(framework.parameters(alpha), stream(seed, "mask"))

    return draw


@pytest.fixture
def alpha():
    """Makes architecture parameters (edges, operations) in float64."""

    def make(space=None, seed=2):
        space = space or SearchSpace.minimal()
        shape = (len(space.edges), len(space.operations))
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    return make
