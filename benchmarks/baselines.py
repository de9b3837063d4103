"""What a search step is measured against."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.engine.mask import Mask
from nascore.engine.operations import BatchNorm, build_operation, relu_conv_norm
from nascore.engine.space import Wiring
from nascore.engine.supernet import Cell, Supernet, concatenate
from nascore.engine.unrolled import Batch
from nascore.fast.depthwise import Depthwise
from nascore.runs.algorithm import Search


class PlainNetwork(nn.Module):
    """A wiring as a network of its own: what one would write by hand without any search.

    It has the supernet's operations and concatenation, so that the price of the search is left.
    """

    def __init__(self, wiring: Wiring, images: int, classes: int, cells: int, channels: int):
        super().__init__()
        self.edges = [(edge, wiring[edge]) for edge in wiring.active_edges]
        self.nodes = wiring.space.intermediate_nodes
        width = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(images, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, affine=False, track_running_stats=False),
        )
        widths = [width, width]
        self.preprocess, self.operations = nn.ModuleList(), nn.ModuleList()
        for _ in range(cells):
            self.preprocess.append(nn.ModuleList(relu_conv_norm(w, channels) for w in widths))
            self.operations.append(
                nn.ModuleList(build_operation(name, channels) for _, name in self.edges)
            )
            widths = [widths[1], channels * len(self.nodes)]
        self.classifier = nn.Linear(widths[1], classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        before = last = self.stem(images)
        for preprocess, operations in zip(self.preprocess, self.operations, strict=True):
            nodes = {0: preprocess[0](before), 1: preprocess[1](last)}
            for ((i, j), _), operation in zip(self.edges, operations, strict=True):
                if i in nodes:
                    x = operation(nodes[i])
                    nodes[j] = nodes[j] + x if j in nodes else x
            blank = torch.zeros_like(nodes[0])
            before, last = last, concatenate([nodes.get(j, blank) for j in self.nodes])
        return self.classifier(last.mean(dim=(2, 3)))


def plain_step(wiring: Wiring, search: Search, batch: Batch) -> Callable[[], None]:
    """Forward, backward, clipping and SGD step of a wiring's plain network, as in the search."""
    images, labels = batch
    supernet = search.supernet
    classes, features = supernet.classifier.weight.shape
    network = PlainNetwork(
        wiring,
        images=images.shape[1],
        classes=classes,
        cells=len(supernet.cells),
        channels=features // len(wiring.space.output_nodes),
    )
    network = network.to(search.device, memory_format=search.splits["train"].layout)
    optimiser = torch.optim.SGD(network.parameters(), **search.theta_optimiser.defaults)

    def step():
        F.cross_entropy(network(images), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), search.config.grad_clip)
        optimiser.step()
        optimiser.zero_grad()

    return step


def textbook(search: Search) -> None:
    """Makes a search run as one would first write it.

    Every edge runs every operation by itself, torch's own convolutions, contiguous NCHW, the weight
    as a product, a Python sum. The rest of the step is the search's, so it counts on both sides.
    """
    for name, split in search.splits.items():
        images = split.images.contiguous()
        search.splits[name] = replace(split, images=images, layout=torch.contiguous_format)
    for name, batches in search.batches.items():
        batches.split = search.splits[name]
    search.supernet.to(memory_format=torch.contiguous_format)
    with_torchs_depthwise(search.supernet)
    with_the_weight_as_a_product(search.supernet)
    with_torchs_concatenation(search.supernet)


def with_torchs_depthwise(supernet: Supernet) -> None:
    for module in supernet.modules():
        if isinstance(module, Depthwise):
            module.forward = partial(nn.Conv2d.forward, module)


def with_torchs_concatenation(supernet: Supernet) -> None:
    def forward(cell: Cell, inputs: Sequence[Tensor], weights: list[Tensor], mask: Mask) -> Tensor:
        nodes = cell.nodes(inputs, weights, mask)
        outputs = [nodes[j] for j in cell.space.output_nodes]
        return torch.cat([torch.zeros_like(nodes[0]) if x is None else x for x in outputs], dim=1)

    for cell in supernet.cells:
        cell.forward = partial(forward, cell)


def with_the_weight_as_a_product(supernet: Supernet) -> None:
    """z O(x) by a multiplication, instead of as the scale of the normalisation."""

    def forward(norm: BatchNorm, x: Tensor, z: Tensor | None = None) -> Tensor:
        x = nn.BatchNorm2d.forward(norm, x)
        return x if z is None else z * x

    for module in supernet.modules():
        if isinstance(module, BatchNorm):
            module.forward = partial(forward, module)
