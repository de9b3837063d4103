"""What a search needs of memory and disk: too little fails before any work, by name."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.autograd.graph import saved_tensors_hooks

from nascore.errors import ConfigError
from nascore.frameworks import FRAMEWORKS
from nascore.runs.config import SearchConfig
from nascore.runs.datasets import DATASETS
from nascore.runs.history import OUTCOMES, SPLITS, VARIABLES
from nascore.runs.setup import find_device, set_up

FLOAT = 4  # bytes
NATIVE = {"digits": 8, "fashion-mnist": 28, "synthetic": 8}  # pixels of a side; 32 of any other
KEPT = {"none": 0, "skip_connect": 1, "max_pool_3x3": 5, "avg_pool_3x3": 4}
KEPT |= {"dil_conv_3x3": 5, "dil_conv_5x5": 5, "sep_conv_3x3": 9, "sep_conv_5x5": 9}
"""How many maps an operation keeps for the backward pass, at most; 10 for any other."""
DRAWS = 10
MAPS = "maps of a batch"
ADVICE = {
    "images": "a smaller image_size or fewer examples",
    "weights": "fewer channels, cells, nodes or operations",
    MAPS: "recompute=True, a smaller batch_size, fewer channels or cells",
    "history and checkpoint": "fewer epochs, cells or nodes",
}
"""What a search keeps in memory, and what makes each part smaller."""

PROC_CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
OUT_OF_MEMORY = re.compile("out of memory|allocate memory", re.IGNORECASE)


@contextmanager
def enough(config: SearchConfig, checkpoint: str | Path | None = None) -> Iterator[None]:
    """Where a search may work: it is checked beforehand, and memory that runs out is named.

    Raises ConfigError before, and MemoryError within.
    """
    check(config, checkpoint)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        size = f"batch_size={config.batch_size}, channels={config.channels}, cells={config.cells}"
        where = find_device(config.device)
        message = f"memory ran out on {where}, with {size}. Take {ADVICE[MAPS]}."
        raise MemoryError(message) from error


def check(config: SearchConfig, checkpoint: str | Path | None = None) -> None:
    """Raises ConfigError if memory or disk is less than a search needs: what, and how much.

    It computes bounds, which takes no time. Only where these are near what is free, the maps are
    measured on a few images.
    """
    device = find_device(config.device)
    if device.type == "meta":
        raise ConfigError("device='meta' holds no numbers. Search on cpu, cuda or mps.")
    parts, host = needs(config), available(torch.device("cpu"))
    free = available(device) if device.type == "cuda" else host
    first = {part: number for part, number in parts.items() if part != MAPS}
    _compare(first, host, "memory")  # all of it is made on the host
    if parts[MAPS] > free / 4 and 2 * parts[MAPS] // config.batch_size < free:
        parts[MAPS] = measured_maps(config)
    _compare(parts, free, f"memory on {device}")
    if checkpoint is not None:
        folder = next(f for f in Path(checkpoint).absolute().parents if f.exists())
        what = {"history and checkpoint": disk(config)}
        _compare(what, shutil.disk_usage(folder).free, f"disk in {folder}")


def _compare(parts: dict[str, int], free: int, where: str) -> None:
    needed = sum(parts.values())
    if needed > free:
        most = max(parts, key=parts.get)
        what = f"this search needs {_gib(needed)} of {where}, {_gib(parts[most])} for its {most}"
        raise ConfigError(f"{what}; {_gib(free)} are free. Take {ADVICE[most]}.")


def _gib(number: int) -> str:
    return f"{number / 2**30:,.2f} GiB"


def needs(config: SearchConfig) -> dict[str, int]:
    """Bytes of memory that a search needs, by part: the history's exactly, else upper bounds."""
    space, dataset = config.space, DATASETS[config.dataset]
    c, outputs = config.channels, len(space.output_nodes)
    images = sum(config.sizes.values()) * dataset.channels * _side(config) ** 2
    weights = (
        27 * c * dataset.channels
        + dataset.classes * c * outputs
        + config.cells
        * (
            sum(_weights(space.operations[k], c) for row in space.choices for k in row)
            + space.inputs * max(3, outputs) * c**2
        )
    )
    return {
        "images": 2 * FLOAT * images,  # as they are read, and normalised
        "weights": 4 * FLOAT * weights,  # with gradient, momentum and what a checkpoint copies
        MAPS: _bound_of_maps(config, config.batch_size),
        "history and checkpoint": history(config) + 2 * FLOAT * weights,
    }


def _side(config: SearchConfig) -> int:
    return config.image_size or NATIVE.get(config.dataset, 32)


def _weights(operation: str, channels: int) -> int:
    """Weights of an operation at most; one from outside the package is taken for a 7x7."""
    if ":" in operation:
        return 49 * channels**2
    return 2 * channels * (channels + 25) if "conv" in operation else 0


def _bound_of_maps(config: SearchConfig, batch: int) -> int:
    """Bytes that a step on a batch keeps for its backward pass, at most."""
    space = config.space
    kept = [[KEPT.get(space.operations[k], 10) for k in row] for row in space.choices]
    together = sum if FRAMEWORKS[config.framework].dense else max
    outputs = len(space.output_nodes)
    a_cell = sum(together(row) + 1 for row in kept) + 4 * space.inputs * max(3, outputs)
    cells = config.cells * a_cell
    if config.recompute:  # what enters each cell, and all of one
        cells = config.cells * outputs + a_cell
    one = batch * config.channels * _side(config) ** 2 * FLOAT
    return one * (cells + 10) * (4 if config.order == 2 else 1)


def history(config: SearchConfig) -> int:
    """Bytes of a history."""
    space = config.space
    sizes = {
        "epoch": config.epochs + 1,
        "cell": config.cells,
        "edge": len(space.edges),
        "operation": len(space.operations),
        "split": len(SPLITS),
        "outcome": len(OUTCOMES),
    }
    variables = {**VARIABLES, **FRAMEWORKS[config.framework].recorded}
    return sum(
        prod(sizes.get(dim, 1) for dim in dims) * np.dtype(kind).itemsize
        for dims, kind, *_ in variables.values()
    )


def disk(config: SearchConfig) -> int:
    """Bytes of disk at most: a checkpoint, the one that takes its place, and a record."""
    return 3 * needs(config)["history and checkpoint"]


def available(device: torch.device) -> int:
    """Bytes of memory that are free on a device; on the host also within the limits of cgroups."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return min(psutil.virtual_memory().available, *_left_in_cgroups())


def _left_in_cgroups() -> Iterator[int]:
    """What each limit on this process leaves, as containers and batch systems set them."""
    lines = PROC_CGROUP.read_text().splitlines() if PROC_CGROUP.exists() else []
    yield 2**63 - 1
    for line in lines:
        _, kinds, path = line.split(":", 2)
        root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        if "memory" in kinds.split(","):  # the first version of cgroups
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            root = CGROUPS / "memory"
        elif kinds:
            continue
        folder = root / path.lstrip("/")
        for here in (folder, *folder.parents):
            if here.is_relative_to(root):
                with suppress(OSError, ValueError, KeyError):  # "max" is no limit
                    limit, used = (int((here / name).read_text()) for name in names[:2])
                    stat = dict(map(str.split, (here / "memory.stat").read_text().splitlines()))
                    yield max(0, limit - used + int(stat[names[2]]))


def measured_maps(config: SearchConfig) -> int:
    """Bytes that a step keeps for its backward pass, from steps on a few images.

    What is drawn decides how much is kept, so the largest of ten draws counts.
    """
    if config.recompute:  # what enters each cell, and all of one: hooks see only the first
        alone = config.replace(recompute=False, cells=1)
        outputs, side = len(config.space.output_nodes), _side(config)
        entering = config.batch_size * config.channels * outputs * side**2 * FLOAT
        return measured_maps(alone) + config.cells * entering
    few = min(4, config.batch_size)
    small = config.replace(
        dataset="synthetic",
        image_size=_side(config),
        train_examples=few,
        search_examples=few if config.level == "bi" else None,
        valid_examples=0,
        batch_size=few,
        augment=False,
        compile=False,
    )
    setup = set_up(small)
    fixed = {p.data_ptr() for p in setup.learner.theta}
    kept: dict[int, int] = {}  # bytes by address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in fixed:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batches, most = {split: setup.batch(split) for split in setup.learning_splits}, 0
    for _ in range(1 if FRAMEWORKS[config.framework].dense else DRAWS):
        for split, what in setup.learning_splits.items():
            kept.clear()
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                mask, ahead = setup.streams["mask"], batches.get("train")
                setup.learner.step(batches[split], mask, ahead=ahead, **what)
            most = max(most, sum(kept.values()))
    return most * config.batch_size // few
