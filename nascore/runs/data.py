"""Datasets as tensors that live on the device, batches and augmentation made there.

Train, search and valid parts are disjoint pieces of one permutation of a dataset's training part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nascore.engine.random import stream
from nascore.errors import DataError
from nascore.fast.layout import laid_out
from nascore.runs.config import SearchConfig
from nascore.runs.datasets import DATASETS
from nascore.runs.history import SPLITS

PADDING = 4  # of the random crop


@dataclass(frozen=True)
class Split:
    """One part of a dataset, on the device."""

    images: Tensor  # (n, channels, H, W), normalised
    labels: Tensor  # (n,)
    index: Tensor  # (n,), the position of each example in the dataset, on the CPU
    layout: torch.memory_format = torch.channels_last  # of images and batches

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every example once, in order, in pieces of about ``size``."""
        pieces = max(1, round(len(self) / size))
        return zip(self.images.tensor_split(pieces), self.labels.tensor_split(pieces), strict=True)


@dataclass
class Batches:
    """Batches without an end, in random order: images (size, channels, H, W) and labels (size,).

    Batches are full; what does not fill one at the end of an epoch is left out of it.
    """

    split: Split
    size: int
    generator: Generator | None  # of the order and the augmentation
    augment: bool = False  # images are cropped and flipped at random
    anew: bool = False  # each batch is drawn from all examples, whichever the epoch has seen

    def __post_init__(self):
        self.start_epoch()

    def start_epoch(self) -> None:
        """Leaves out what is left of this epoch."""
        device = self.split.labels.device
        self.left = torch.empty(0, dtype=torch.long, device=device)  # rows, in their order

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        split, size = self.split, self.size
        if self.anew or len(self.left) < size:
            device = split.labels.device
            self.left = torch.randperm(len(split), generator=self.generator, device=device)
        rows, self.left = self.left[:size], self.left[size:]
        images = split.images[rows]
        if self.augment:
            images = crop_and_flip(images, self.generator)
        return laid_out(images, split.layout), split.labels[rows]


def crop_and_flip(images: Tensor, generator: Generator | None) -> Tensor:
    """Random crop after zero padding, and horizontal flip, one draw for each image.

    (B, C, H, W) to (B, C, H, W), in one gather on the images' device. The images are normalised
    already, so the padding has the mean colour.
    """
    n, _, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (n, 1), generator=generator, device=device)

    columns = torch.arange(width, device=device)
    columns = torch.where(draw(2).bool(), columns.flip(0), columns) + draw(2 * PADDING + 1)
    rows = torch.arange(height, device=device) + draw(2 * PADDING + 1)  # (B, H)
    example = torch.arange(n, device=device)[:, None, None]
    padded = F.pad(images, (PADDING,) * 4)
    return padded[example, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def load_splits(
    config: SearchConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> dict[str, Split]:
    """The three parts of a config's dataset, as tensors on a device.

    With ``search_set="train"`` the search part is the training part. Raises DataError if the
    dataset cannot be read or does not return what it has to.

    >>> config = SearchConfig(dataset="digits", train_examples=96, valid_examples=64, image_size=9)
    >>> splits = load_splits(config, "cpu")
    >>> splits["train"].images.shape, len(splits["valid"])
    (torch.Size([96, 1, 9, 9]), 64)
    """
    dataset, sizes, seed = DATASETS[config.dataset], config.sizes, config.seed
    images, labels = dataset.load()
    if ":" in config.dataset and not all(map(torch.equal, (images, labels), dataset.load())):
        name = f"dataset {config.dataset!r} returns other examples each time"
        raise DataError(f"{name}. Seed what is random in it.")
    permutation = torch.randperm(len(labels), generator=stream(seed, "split"))
    index = permutation[: sum(sizes.values())]
    images = _resized(images[index].float(), config.image_size)
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))  # (channels,)
    images = (images - mean[:, None, None]) / std[:, None, None].clamp(min=1e-6)
    labels = _noisy(labels[index], dataset.classes, config.label_noise, stream(seed, "noise"))
    tensors = laid_out(images.to(device, dtype), layout), labels.to(device), index
    parts = [tensor.split([sizes[split] for split in SPLITS]) for tensor in tensors]
    splits = {split: Split(*part, layout) for split, *part in zip(SPLITS, *parts, strict=True)}
    return splits | ({"search": splits["train"]} if config.search_set == "train" else {})


def _resized(images: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    """Images padded with zeros to the shape of ``size``, then pooled to it: (n, C, *size).

    Nothing is stretched. A number is the size of their longer side, so that they keep their shape.
    """
    if size is None:
        return images
    height, width = images.shape[2:]
    if isinstance(size, int):
        longer = max(height, width)
        size = max(1, round(size * height / longer)), max(1, round(size * width / longer))
    factor = max(1, height / size[0], width / size[1])
    rows, columns = round(factor * size[0]) - height, round(factor * size[1]) - width
    images = F.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    return F.adaptive_avg_pool2d(images, size) if factor > 1 else images


def _noisy(labels: Tensor, classes: int, share: float, generator: Generator) -> Tensor:
    """Labels with a share of them replaced by a uniformly random class, maybe the same one."""
    replaced = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    labels = labels.clone()
    labels[replaced] = torch.randint(classes, (len(replaced),), generator=generator)
    return labels
