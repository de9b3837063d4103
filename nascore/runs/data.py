"""Datasets as tensors that live on the device, batches and augmentation made there.

Train, search and valid parts are disjoint pieces of one permutation of a dataset's training part.
A dataset's own test part is never read.

Two environment variables say where files are:
NASCORE_DATA, the folder that keeps them (default ~/.cache/nascore), and
NASCORE_MIRROR, an address or a local folder that holds the archives under their original names.
"""

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Generator, Tensor

from nascore.engine.random import stream
from nascore.errors import DataError
from nascore.folders import ensure_writable

SPLITS = ("train", "search", "valid")
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
PADDING = 4  # of the random crop


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its files are read, and how to read them.

    Arguments:
        examples: size of its training part.
        classes: number of classes.
        channels: image channels.
        read: returns images (examples, channels, H, W) uint8 or float, and labels (examples,).
    """

    examples: int
    classes: int
    channels: int
    read: Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Split:
    """One part of a dataset, on the device.

    Arguments:
        images: (n, channels, H, W), normalised, channels last in memory.
        labels: (n,).
        index: (n,), the position of each example in the dataset, on the CPU.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, size: int, generator: Generator | None, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch after epoch in random order: images (size, channels, H, W) and labels (size,).

        Batches are full; what does not fill one at the end of an epoch is left out of it.
        """
        while True:
            order = torch.randperm(len(self), generator=generator, device=self.labels.device)
            for rows in order[: len(self) // size * size].split(size):
                images = self.images[rows]
                if augment:
                    images = crop_and_flip(images, generator)
                yield images.contiguous(memory_format=torch.channels_last), self.labels[rows]

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every example once, in order, in pieces of about ``size``."""
        pieces = max(1, round(len(self) / size))
        return zip(self.images.tensor_split(pieces), self.labels.tensor_split(pieces), strict=True)


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
    name: str,
    sizes: Mapping[str, int],
    seed: int,
    device: torch.device,
    image_size: int | None = None,
    label_noise: float = 0.0,
) -> dict[str, Split]:
    """The three parts of a dataset.

    Arguments:
        name: a key of DATASETS.
        sizes: examples of each split.
        seed: draws the permutation and the labels that are replaced.
        device: where the tensors live.
        image_size: height and width, pooled or padded to; None keeps the native one.
        label_noise: share of the labels that are replaced by a uniformly random one.

    Raises DataError if a file is missing, damaged, or cannot be written.
    """
    dataset = DATASETS[name]
    images, labels = (torch.from_numpy(array) for array in dataset.read())
    if len(labels) != dataset.examples:
        raise DataError(f"{name} has {len(labels)} examples instead of {dataset.examples}.")
    permutation = torch.randperm(len(labels), generator=stream(seed, "split"))
    index = permutation[: sum(sizes.values())]
    images = _resized(images[index].float(), image_size)
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))  # (channels,)
    images = (images - mean[:, None, None]) / std[:, None, None].clamp(min=1e-6)
    labels = _noisy(labels[index].long(), dataset.classes, label_noise, stream(seed, "noise"))
    images = images.to(device, memory_format=torch.channels_last)
    labels = labels.to(device)
    parts = [t.split([sizes[split] for split in SPLITS]) for t in (images, labels, index)]
    return {split: Split(*part) for split, *part in zip(SPLITS, *parts, strict=True)}


def _resized(images: Tensor, size: int | None) -> Tensor:
    """Square images, pooled or zero-padded from (n, C, H, W) to (n, C, size, size)."""
    native = images.shape[-1]
    if size is None or size == native:
        return images
    if size < native:
        return F.adaptive_avg_pool2d(images, size)
    before = (size - native) // 2
    after = size - native - before
    return F.pad(images, (before, after, before, after))


def _noisy(labels: Tensor, classes: int, share: float, generator: Generator) -> Tensor:
    """Labels with a share of them replaced by a uniformly random class, maybe the same one."""
    replaced = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    labels = labels.clone()
    labels[replaced] = torch.randint(classes, (len(replaced),), generator=generator)
    return labels


def data_folder() -> Path:
    """The folder of downloaded datasets; NASCORE_DATA chooses another."""
    return Path(os.environ.get("NASCORE_DATA", "~/.cache/nascore")).expanduser()


@contextmanager
def _downloads() -> Iterator[Path]:
    """The data folder, for one process at a time. Raises DataError if it cannot be written."""
    advice = "Set NASCORE_DATA to a folder that you may write to."
    root = ensure_writable(data_folder(), DataError, advice)
    with FileLock(root / ".lock"):
        yield root


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in a file of MNIST's IDX format, plain or gzipped.

    Raises DataError, naming the file, if it is damaged or truncated.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        if raw[:3] != b"\x00\x00\x08":
            raise ValueError("it is not an IDX file of bytes")
        shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Delete it and run again.") from None


def _from_mirror(address: str, files: list[tuple[str, str]], folder: Path) -> str:
    """The address to download from, which ends in a slash: NASCORE_MIRROR if it is set.

    If that is a local folder, its files (name, MD5 sum) are copied to ``folder`` and checked, so
    that nothing is left to download.
    """
    mirror = os.environ.get("NASCORE_MIRROR")
    if not mirror:
        return address
    if "://" in mirror:
        return mirror.rstrip("/") + "/"
    from torchvision.datasets.utils import check_integrity

    folder.mkdir(parents=True, exist_ok=True)
    for name, md5 in files:
        archive = Path(mirror).expanduser() / name
        if not check_integrity(archive, md5):
            raise DataError(f"{archive} is missing, or its MD5 sum is not {md5}.")
        shutil.copyfile(archive, folder / name)
    return address


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images[:, None].astype(np.float32), digits.target


def _fashion_mnist() -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import FashionMNIST

    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    folders = [data_folder() / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST]

    def find() -> list[Path] | None:
        for folder in folders:
            for suffix in ("", ".gz"):
                paths = [folder / (name + suffix) for name in names]
                if all(path.exists() for path in paths):
                    return paths
        return None

    paths = find()
    if paths is None:
        with _downloads() as root:
            address = _from_mirror(FashionMNIST.mirrors[0], FashionMNIST.resources, folders[0])
            source = type("FashionMNIST", (FashionMNIST,), {"mirrors": [address]})
            _download(lambda: source(root, download=True), "Fashion-MNIST", root)
        paths = find()
    images, labels = map(read_idx, paths)
    if images.ndim != 3 or len(images) != len(labels):
        raise DataError(f"{paths[0]} and {paths[1]} do not belong together. Delete both.")
    return images[:, None], labels


def _cifar(classes: int) -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import CIFAR10, CIFAR100

    base = {10: CIFAR10, 100: CIFAR100}[classes]
    with _downloads() as root:
        try:
            cifar = base(root, train=True)  # checks the MD5 sum of every file
        except RuntimeError:
            files = [(base.filename, base.tgz_md5)]
            address = _from_mirror(base.url[: -len(base.filename)], files, root)
            source = type(base.__name__, (base,), {"url": address + base.filename})
            load = partial(source, root, train=True, download=True)
            cifar = _download(load, base.__name__, root)
    return cifar.data.transpose(0, 3, 1, 2).copy(), np.array(cifar.targets)


def _download(load: Callable, name: str, root: Path):
    """Runs a torchvision loader, which checks MD5 sums. Raises DataError that says what to do."""
    try:
        return load()
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{name} could not be read into {root}: {error} "
            "If a file there is damaged, delete it; if the host is out of reach, set "
            "NASCORE_MIRROR to an address or a folder that holds the archive."
        ) from error


def _synthetic() -> tuple[np.ndarray, np.ndarray]:
    """Four noisy prototypes of 3x8x8, the same on every machine."""
    generator = np.random.default_rng(0)
    prototypes = generator.normal(size=(4, 3, 8, 8))
    labels = np.arange(256) % 4
    images = prototypes[labels] + generator.normal(size=(256, 3, 8, 8))
    return images.astype(np.float32), labels


DATASETS = {
    "digits": Dataset(1797, 10, 1, _digits),
    "fashion-mnist": Dataset(60_000, 10, 1, _fashion_mnist),
    "cifar10": Dataset(50_000, 10, 3, lambda: _cifar(10)),
    "cifar100": Dataset(50_000, 100, 3, lambda: _cifar(100)),
    "synthetic": Dataset(256, 4, 3, _synthetic),
}
