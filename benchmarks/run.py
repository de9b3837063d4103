"""Times a search step against named baselines, side by side in one process.

    python benchmarks/run.py [--device cuda] [--pairs 25]

Writes benchmarks/README.md. At 3x32x32, batch 96, 8 cells, C = 16, minimal cell, one torch thread.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore import SearchConfig
from nascore.data import DATASETS, Dataset
from nascore.loop import Searcher
from nascore.operations import BUILDERS, Depthwise, build_operation, relu_conv_norm
from nascore.space import Wiring

SHAPE = (3, 32, 32)
MASKS = 5
CHANNELS, CELLS, BATCH = 16, 8, 96


class PlainNetwork(nn.Module):
    """A wiring as a network of its own: what one would write by hand without any search."""

    def __init__(self, wiring: Wiring, classes: int):
        super().__init__()
        self.edges = [(edge, wiring[edge]) for edge in wiring.active_edges]
        self.nodes = wiring.space.intermediate_nodes
        self.stem = nn.Sequential(
            nn.Conv2d(SHAPE[0], 3 * CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(3 * CHANNELS, affine=False, track_running_stats=False),
        )
        widths = [3 * CHANNELS, 3 * CHANNELS]
        self.preprocess, self.operations = nn.ModuleList(), nn.ModuleList()
        for _ in range(CELLS):
            self.preprocess.append(nn.ModuleList(relu_conv_norm(w, CHANNELS) for w in widths))
            self.operations.append(
                nn.ModuleList(build_operation(name, CHANNELS) for _, name in self.edges)
            )
            widths = [widths[1], CHANNELS * len(self.nodes)]
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
            before, last = last, torch.cat([nodes.get(j, blank) for j in self.nodes], dim=1)
        return self.classifier(last.mean(dim=(2, 3)))


def search_step(framework: str, device: str) -> tuple[Searcher, Callable]:
    """A searcher with an alpha that stands still, and its whole step on one batch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, *SHAPE, generator=generator).numpy()
    labels = torch.arange(BATCH).remainder(10).numpy()
    DATASETS["benchmark"] = Dataset(BATCH, 10, SHAPE[0], lambda: (images, labels))
    config = SearchConfig(
        framework=framework, dataset="benchmark", device=device, arch_lr=1e-12, lr=1e-6, lr_min=0
    )
    searcher = Searcher(config)
    searcher.start_statistics()
    batch = next(searcher.splits["train"].batches(BATCH, None))
    return searcher, lambda: searcher.step(*batch, "train")


def plain_step(wiring: Wiring, searcher: Searcher) -> Callable:
    """Forward, backward, clipping and SGD step of the plain network of a wiring."""
    config = searcher.config
    network = PlainNetwork(wiring, 10).to(searcher.device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    images, labels = next(searcher.splits["train"].batches(BATCH, None))

    def step():
        F.cross_entropy(network(images), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimiser.step()
        optimiser.zero_grad()

    return step


def textbook_step(searcher: Searcher) -> Callable:
    """The dense step as one would first write it: contiguous NCHW, torch's own convolutions.

    Every edge runs every operation by itself, and a node is a Python sum. The rest of the step is
    the searcher's own, so it counts on both sides.
    """
    searcher.supernet.to(memory_format=torch.contiguous_format)
    for cell in searcher.supernet.cells:
        cell.fold = False
    for module in searcher.supernet.modules():
        if isinstance(module, Depthwise):
            module.forward = partial(nn.Conv2d.forward, module)
    images, labels = next(searcher.splits["train"].batches(BATCH, None))
    images = images.contiguous()
    return lambda: searcher.step(images, labels, "train")


def seconds(step: Callable, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=25, help="timed pairs against each baseline")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    searcher, discrete = search_step("dsnas", arguments.device)
    dense_searcher, dense = search_step("darts", arguments.device)
    stream = searcher.streams["mask"]
    plain_times, discrete_times, ratios, dense_ratios, dense_times = [], [], [], [], []
    masks = 0
    while masks < MASKS:
        state = stream.get_state()
        active = searcher.framework.draw(searcher.alpha, stream).active
        names = tuple(searcher.space.operations[row[0]] for row in active)
        if sum(name in BUILDERS and "conv" in name for name in names) < 2:
            continue  # a mask of little else than pools and `none` says little
        masks += 1
        plain = plain_step(Wiring(searcher.space, names), searcher)

        def same_mask(state=state):
            stream.set_state(state)
            discrete()

        for _ in range(2):
            plain(), same_mask()
        for pair in range(arguments.pairs // MASKS):
            steps = [(plain, plain_times), (same_mask, discrete_times)]
            for step, times in steps if pair % 2 else reversed(steps):
                times.append(seconds(step, searcher.device))
            ratios.append(discrete_times[-1] / plain_times[-1])
    textbook = textbook_step(search_step("darts", arguments.device)[0])
    textbook_times, textbook_ratios = [], []
    dense(), textbook()
    for _ in range(arguments.pairs // MASKS):
        discrete_time = seconds(discrete, searcher.device)
        dense_times.append(seconds(dense, dense_searcher.device))
        dense_ratios.append(discrete_time / dense_times[-1])
        textbook_times.append(seconds(textbook, dense_searcher.device))
        textbook_ratios.append(textbook_times[-1] / dense_times[-1])

    report = f"""# Benchmarks

Made by `python benchmarks/run.py --device {arguments.device} --pairs {arguments.pairs}` on
{datetime.now(UTC):%Y-%m-%d}, in one process: torch {torch.__version__}, Python
{platform.python_version()}, {searcher.device.type} ({platform.machine()}, one torch thread).

Shape: 3x32x32, batch {BATCH}, {CELLS} cells, C = {CHANNELS}, minimal cell, eight operations. A
step is forward pass, backward pass, clipping and SGD step; a search step also draws the mask,
measures the cost of every cell, updates alpha and keeps the statistics. The two steps of a pair
follow each other directly, each first in every other pair; the ratio is the median over pairs, with
the middle half in brackets. Masks with fewer than two convolutions are passed over, and the plain
network is built of the same operation modules. Medians of seconds are over all masks, which differ.

| step | seconds (median) | against | ratio | pairs |
|---|---|---|---|---|
| plain network, written by hand | {statistics.median(plain_times):.3f} | | | |
| DSNAS | {statistics.median(discrete_times):.3f} | plain network with the same sampled operations \
| {quartiles(ratios)} | {len(ratios)}, {MASKS} masks |
| DARTS, dense, textbook | {statistics.median(textbook_times):.3f} | | | |
| DARTS, dense | {statistics.median(dense_times):.3f} | textbook, as textbook / ours \
| {quartiles(textbook_ratios)} | {len(textbook_ratios)} |
| DSNAS | | dense DARTS | {quartiles(dense_ratios)} | {len(dense_ratios)} |

*Textbook* is the dense step as one would first write it: every edge runs every operation by itself,
contiguous NCHW, torch's own convolutions, a Python sum at each node. Ours folds each batch
normalisation into the linear map before it (`nascore/folded.py`), computes ReLU and pools once for
all edges that leave a node, and keeps channels last. On a GPU, for odd image sizes and for other
normalisations, the dense step is the textbook one with channels last.

## Depthwise convolutions on a CPU

{depthwise_table()}

torch has no fast kernel for the gradients of wide and of dilated depthwise convolutions on a CPU.
`nascore.operations.Depthwise` splits the image into the four images of every second row and column,
on which dilation 2 is none, takes the gradient on the input as a convolution with the flipped
kernel, and puts the gradient on a 5x5 weight together from two 5x3 ones. On a GPU it is the plain
convolution.
"""
    (Path(__file__).parent / "README.md").write_text(report)
    print(report)


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def depthwise_table() -> str:
    """Forward and backward of depthwise convolutions against torch's own, on the CPU."""
    rows = ["| kernel, dilation, image | ratio to torch's own (median of 20 pairs) |", "|---|---|"]
    for kernel, dilation in ((3, 2), (5, 2), (5, 1)):
        for channels, size in ((8, 8), (CHANNELS, 32)):
            module = Depthwise(channels, kernel, dilation).to(memory_format=torch.channels_last)
            x = torch.randn(BATCH, channels, size, size).to(memory_format=torch.channels_last)
            gradient = torch.randn_like(x)
            x.requires_grad_()

            def ours(module=module, x=x, gradient=gradient):
                module(x).backward(gradient)

            def torchs(module=module, x=x, gradient=gradient):
                nn.Conv2d.forward(module, x).backward(gradient)

            ours(), torchs()
            cpu = torch.device("cpu")
            ratios = [seconds(ours, cpu) / seconds(torchs, cpu) for _ in range(20)]
            shape = f"{kernel}x{kernel}, {dilation}, {channels}x{size}x{size}"
            rows.append(f"| {shape} | {quartiles(ratios)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
