"""Datasets as plug-ins: sizes known beforehand, a function that reads the files, the package's own.

A dataset's own test part is never read. What torchvision downloads is kept in ~/.cache/nascore, or
in the folder that the environment variable NASCORE_DATA names.
"""

import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nascore.errors import ConfigError, DataError, checked, in_one_line, one_line
from nascore.folders import held
from nascore.plugins import Registry

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
Arrays = tuple[np.ndarray, np.ndarray]  # images and labels


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its files are read, and how to read them.

    Arguments:
        examples: size of its training part.
        channels: those of an image.
        read: returns images (examples, channels, H, W), which need not be square, and labels
            (examples,), integers from 0 to classes - 1.
    """

    name: str
    examples: int
    classes: int
    channels: int
    read: Callable[[], Arrays]

    def __post_init__(self):
        if min(self.examples, self.classes, self.channels) < 1:
            raise ConfigError(f"{self}: examples, classes and channels are at least 1.")

    @property
    def __wrapped__(self) -> Callable[[], Arrays]:
        """The function whose module and source stand for the dataset."""
        return self.read

    def load(self) -> tuple[Tensor, Tensor]:
        """Images (examples, channels, H, W) uint8 or float32; labels (examples,) int64.

        Raises DataError if the function fails, or returns anything else.
        """
        try:
            images, labels = map(np.asarray, self.read())
        except DataError:
            raise
        except Exception as error:
            why = in_one_line(error, self.read.__module__)
            raise DataError(f"dataset {self.name!r} cannot be read, {why}") from error

        def need(fine: bool, actual: str, allowed: str) -> None:
            if not fine:
                raise DataError(f"dataset {self.name!r} has {actual} instead of {allowed}.")

        n, channels, classes = self.examples, self.channels, self.classes
        fine = images.ndim == 4 and images.shape[:2] == (n, channels)
        need(fine, f"images of shape {images.shape}", f"({n}, {channels}, height, width)")
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
            need(np.isfinite(images).all(), "pixels that are infinite or NaN", "finite numbers")
        fine = labels.shape == (n,) and labels.dtype.kind in "iu"
        need(fine, f"labels of shape {labels.shape}, {labels.dtype}", f"({n},), integers")
        low, high = labels.min(), labels.max()
        fine = low >= 0 and high < classes
        need(fine, f"labels from {low} to {high}", f"labels from 0 to {classes - 1}")
        images = np.require(images, requirements="CW")  # as torch wants them
        return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


NOT_ONE = "not a dataset: decorate the function that reads it with @dataset."
DATASETS = Registry("dataset", lambda made: None if isinstance(made, Dataset) else NOT_ONE)


@checked
def dataset(
    name: str, *, examples: int, classes: int, channels: int
) -> Callable[[Callable[[], Arrays]], Dataset]:
    """Makes a dataset of a function that reads it, and registers it under a name.

    Every search calls the function once. In a module of your own, the dataset is known as
    ``SearchConfig(dataset="module:name")``. The address of a run holds a digest of its module's
    source, not of the files that it reads: give other data another name. Arguments, and what the
    function returns: see Dataset.

    >>> from nascore import SearchConfig
    >>> @dataset("stripes", examples=128, classes=2, channels=1)
    ... def stripes():
    ...     labels = np.arange(128) % 2
    ...     images = np.zeros((128, 1, 8, 12), np.uint8)
    ...     images[labels == 1, :, ::2] = 255
    ...     return images, labels
    >>> SearchConfig(dataset="stripes").sizes
    {'train': 128, 'search': 0, 'valid': 0}
    """

    def add(read: Callable[[], Arrays]) -> Dataset:
        made = Dataset(name, examples, classes, channels, read)
        return DATASETS.register(name)(made)

    return add


@dataset("digits", examples=1797, classes=10, channels=1)
def digits() -> Arrays:
    """Handwritten digits of 8x8 in 17 grey levels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels.reshape(-1, 1, 8, 8).astype(np.float32), labels


@dataset("synthetic", examples=256, classes=4, channels=3)
def synthetic() -> Arrays:
    """Four noisy prototypes of 3x8x8, the same on every machine: tiny, for tests."""
    generator = np.random.default_rng(0)
    prototypes = generator.normal(size=(4, 3, 8, 8))
    labels = np.arange(256) % 4
    images = prototypes[labels] + generator.normal(size=(256, 3, 8, 8))
    return images.astype(np.float32), labels


@dataset("fashion-mnist", examples=60_000, classes=10, channels=1)
def fashion_mnist() -> Arrays:
    """Grey clothes of 28x28: from Debian's package of them if it is here, else from torchvision."""
    if not DEBIAN_FASHION_MNIST.exists():
        fashion = _from_torchvision("FashionMNIST")
        return fashion.data.numpy()[:, None], fashion.targets.numpy()
    names = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
    raw = [gzip.decompress((DEBIAN_FASHION_MNIST / name).read_bytes()) for name in names]
    images, labels = (np.frombuffer(part, np.uint8) for part in raw)
    return images[16:].reshape(-1, 1, 28, 28), labels[8:]  # without the headers of IDX files


@dataset("cifar10", examples=50_000, classes=10, channels=3)
def cifar10() -> Arrays:
    """Photographs of 32x32 in 10 classes."""
    cifar = _from_torchvision("CIFAR10")
    return cifar.data.transpose(0, 3, 1, 2), np.array(cifar.targets)


@dataset("cifar100", examples=50_000, classes=100, channels=3)
def cifar100() -> Arrays:
    """Photographs of 32x32 in 100 classes."""
    cifar = _from_torchvision("CIFAR100")
    return cifar.data.transpose(0, 3, 1, 2), np.array(cifar.targets)


def _from_torchvision(name: str) -> Any:
    """The training part of one of torchvision's datasets, downloaded if it is not there yet."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    folder = Path(os.environ.get("NASCORE_DATA") or "~/.cache/nascore").expanduser()
    with suppress(Exception):  # not there, or not whole
        return kind(folder)  # without a lock, since such a folder may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / ".lock", wait=True):  # processes take turns: the first one downloads
            before = os.umask(0o077)
            try:  # what a killed download leaves, others who may write here can finish
                os.umask(before & ~(folder.stat().st_mode & 0o077))
                return kind(folder, download=True)
            finally:
                os.umask(before)
    except Exception as error:
        text = f"{name} cannot be read from {folder}, or downloaded to it: {one_line(error)}"
        fetch = f"torchvision.datasets.{name}(folder, download=True)"
        advice = f"Without a network, call {fetch} elsewhere, and set NASCORE_DATA to that folder."
        raise DataError(f"{text} {advice}") from error
