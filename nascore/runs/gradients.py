"""Before a search on a GPU: are its gradients right there, in this version of everything?"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.engine.random import stream
from nascore.engine.supernet import Supernet
from nascore.engine.unrolled import Batch
from nascore.errors import ConfigError
from nascore.frameworks.base import LEARNERS
from nascore.runs.algorithm import Search

CHECKED = ("cuda",)  # kinds of devices
LARGEST = {False: 1e-2, True: 0.5}  # relative difference without and with amp
NOTHING = 1e-5  # the norm of a gradient that is nothing but rounding
CELLS, EXAMPLES = 2, 32  # deeper down a ReLU whose input is near 0 opens in one of the two alone


def check_gradients(search: Search) -> None:
    """Compares the gradients of the first cells with those in float64 on the same device.

    On the same images, under the first mask and, for each operation, the one that takes it wherever
    it may be. Raises ConfigError if dL/dZ or theta's gradient differ: under which, and what to try.
    """
    usual, exact = (copy.deepcopy(search.supernet).to(x) for x in (torch.float32, torch.float64))
    for supernet in (usual, exact):
        supernet.cells = supernet.cells[:CELLS]
    images, labels = search.chunks("train")[0]
    batch, limit, wrong = (images[:EXAMPLES], labels[:EXAMPLES]), LARGEST[search.config.amp], []
    for name, mask in _masks(search):
        computed = _gradients(usual, batch, mask, search.precision())
        expected = _gradients(exact, batch, mask, search.precision())
        pairs = zip(computed, expected, strict=True)
        if any((a - b).norm() > limit * b.norm() + NOTHING for a, b in pairs):
            wrong.append(name)
    if wrong:
        device, last = search.device.type, search.layout == torch.channels_last
        if device == "cuda":
            device = torch.cuda.get_device_name(search.device)
        raise ConfigError(
            f"gradients are wrong on {device} with torch {torch.__version__}: under "
            f"{', '.join(wrong)} they are off from float64 by more than {limit} of their norm. Try "
            f"channels_last={not last}, update torch and the driver, or take device='cpu'."
        )


def _masks(search: Search) -> Iterator[tuple[str, Mask]]:
    """The masks to check, by what the message calls them. No stream of the search moves on."""
    generator = stream(search.config.seed, "gradients", search.device)
    context = replace(search.context(LEARNERS), generator=generator)
    yield "the first mask", search.framework.draw(context)
    for k, name in enumerate(search.space.operations):
        active = [[k] if k in choices else [] for choices in search.space.choices]
        weight = torch.zeros(len(active), len(search.space.operations), device=search.device)
        weight[[bool(row) for row in active], k] = 1
        if name != "none":
            yield name, Mask(weight, weight, active, one_hot=True)


def _gradients(
    supernet: Supernet, batch: Batch, mask: Mask, precision: AbstractContextManager
) -> tuple[Tensor, Tensor]:
    """Those on Z, (cells, edges, operations), and on theta, flat. Autocast leaves float64 alone."""
    (images, labels), theta = batch, list(supernet.parameters())
    z = mask.per_cell(len(supernet.cells)).to(theta[0].dtype).detach().requires_grad_()
    with precision, torch.compiler.set_stance("force_eager"):
        logits = supernet(images.to(z.dtype), z, mask).to(z.dtype)
    loss = F.cross_entropy(logits, labels)
    on_z, *on_theta = torch.autograd.grad(loss, [z, *theta], materialize_grads=True)
    return on_z.double(), torch.cat([gradient.flatten() for gradient in on_theta]).double()
