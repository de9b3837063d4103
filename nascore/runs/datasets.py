"""Datasets as plug-ins: sizes known beforehand, a function that reads the files, the package's own.

A dataset's own test part is never read. Two environment variables say where files are:
NASCORE_DATA, the folder that keeps them (default ~/.cache/nascore), and
NASCORE_MIRROR, an address or a local folder that holds the archives under their original names.
"""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from nascore.errors import ConfigError, DataError, checked, one_line
from nascore.folders import ensure_writable
from nascore.plugins import Registry, failure, is_built_in

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
}
"""MD5 sums of the unzipped files, which Debian zips anew."""

RETRIES = 2
TIMEOUT = 60  # seconds without an answer after which a download fails
LOCK_TIMEOUT = 1800  # seconds to wait for another process that downloads
Arrays = tuple[np.ndarray, np.ndarray]  # images and labels


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its files are read, and how to read them.

    Arguments:
        examples: size of its training part.
        channels: those of an image.
        read: returns images (examples, channels, H, W) uint8 or float, which need not be square,
            and labels (examples,), integers from 0 to classes - 1.

    Raises ConfigError for a size below 1, and DataError if ``read`` returns anything else.
    """

    name: str
    examples: int
    classes: int
    channels: int
    read: Callable[[], Arrays]

    def __post_init__(self):
        sizes = (self.examples, self.classes, self.channels)
        if not all(isinstance(size, Integral) and size > 0 for size in sizes):
            raise ConfigError(f"{self}: examples, classes and channels are positive integers.")

    @property
    def __wrapped__(self) -> Callable[[], Arrays]:
        """The function whose module and source stand for the dataset."""
        return self.read

    def load(self) -> tuple[Tensor, Tensor]:
        """Images (examples, channels, H, W) uint8 or float32; labels (examples,) int64."""

        def check(fine: bool, actual: str, allowed: str) -> None:
            if not fine:
                raise DataError(f"dataset {self.name!r} has {actual} instead of {allowed}.")

        try:
            parts = self.read()
        except Exception as error:
            if is_built_in(self):
                raise
            why = failure(self, error)
            raise DataError(f"dataset {self.name!r} cannot be read, {why}") from error
        n, top = self.examples, self.classes - 1
        pair = isinstance(parts, tuple) and len(parts) == 2
        check(pair, type(parts).__name__, "a tuple of images and labels")
        images, labels = map(np.asarray, parts)
        shape, dtype = images.shape, images.dtype
        fine = images.ndim == 4 and shape[:2] == (n, self.channels) and images.size > 0
        check(fine, f"images of shape {shape}", f"({n}, {self.channels}, height, width)")
        check(dtype == np.uint8 or dtype.kind == "f", f"images of type {dtype}", "uint8 or float")
        check(labels.shape == (n,), f"labels of shape {labels.shape}", f"({n},)")
        check(labels.dtype.kind in "iu", f"labels of type {labels.dtype}", "integers")
        low, high = labels.min(), labels.max()
        check(low >= 0 and high <= top, f"labels from {low} to {high}", f"labels from 0 to {top}")
        if dtype != np.uint8:
            with np.errstate(over="ignore"):
                images = images.astype(np.float32)
            check(np.isfinite(images).all(), "pixels that are infinite or NaN", "finite numbers")
        images = np.require(images, requirements="CW")  # as torch wants them
        return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def _not_a_dataset(plugin: object) -> str | None:
    if isinstance(plugin, Dataset):
        return None
    return f"it is a {type(plugin).__name__}. Decorate the function that reads it with @dataset."


DATASETS = Registry("dataset", _not_a_dataset)


@checked
def dataset(
    name: str, *, examples: int, classes: int, channels: int, replace: bool = False
) -> Callable[[Callable[[], Arrays]], Dataset]:
    """Makes a dataset of a function that reads it, and registers it under a name.

    Every search calls the function once. In a module of your own, the dataset is known as
    ``SearchConfig(dataset="module:name")``. The address of a run holds a digest of its module's
    source, not of the files that it reads: give other data another name.

    Arguments:
        examples, classes, channels, and what the function returns: see Dataset.
        replace: take the name over from another dataset. ConfigError without it.

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
        return DATASETS.register(name, replace=replace)(made)

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
    """Grey clothes of 28x28: from the data folder, Debian's, or downloaded."""
    folder = data_folder() / "FashionMNIST" / "raw"
    for place, suffix in product((folder, DEBIAN_FASHION_MNIST), ("", ".gz")):
        paths = [place / (name + suffix) for name in FASHION_MNIST]
        if all(map(os.path.exists, paths)):
            break
    else:
        from torchvision.datasets import FashionMNIST

        paths = [folder / f"{name}.gz" for name in FASHION_MNIST]
        sums = {path.name: dict(FashionMNIST.resources)[path.name] for path in paths}
        with _downloaded(FashionMNIST.mirrors[0], sums, folder):
            pass
    images, labels = map(_unzipped, paths, FASHION_MNIST.values())
    return images[16:].reshape(-1, 1, 28, 28), labels[8:]  # without the headers of IDX files


@dataset("cifar10", examples=50_000, classes=10, channels=3)
def cifar10() -> Arrays:
    """Photographs of 32x32 in 10 classes."""
    return _cifar("CIFAR10")


@dataset("cifar100", examples=50_000, classes=100, channels=3)
def cifar100() -> Arrays:
    """Photographs of 32x32 in 100 classes."""
    return _cifar("CIFAR100")


def _cifar(name: str) -> Arrays:
    import torchvision.datasets

    kind, folder = getattr(torchvision.datasets, name), data_folder()
    try:
        cifar = kind(folder)  # checks the MD5 sum of every file, and writes nothing
    except OSError as error:
        raise DataError(f"{name} cannot be read from {folder}: {error}.") from None
    except RuntimeError:  # something is missing or damaged
        archive = {kind.filename: kind.tgz_md5}
        with _downloaded(kind.url.removesuffix(kind.filename), archive, folder):
            cifar = kind(folder, download=True)  # unpacks the archive
    return cifar.data.transpose(0, 3, 1, 2).copy(), np.array(cifar.targets)


def data_folder() -> Path:
    """The folder of downloaded datasets; NASCORE_DATA chooses another."""
    path = os.environ.get("NASCORE_DATA") or "~/.cache/nascore"
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"NASCORE_DATA={path!r}: {error} Write the whole path.") from None


@contextmanager
def _downloaded(address: str, files: dict[str, str], folder: Path) -> Iterator[None]:
    """Files (name: MD5 sum) in a folder, which no other process changes inside the context.

    A file that is missing or damaged is fetched from the address, or from NASCORE_MIRROR.
    """
    import pooch  # here, since in a notebook it warns of a missing progress bar when it is imported

    mirror = os.environ.get("NASCORE_MIRROR") or address
    ensure_writable(folder, DataError, "Set NASCORE_DATA to a folder that you may write to.")
    sums = {name: f"md5:{md5}" for name, md5 in files.items()}
    source = pooch.create(folder, mirror.rstrip("/") + "/", registry=sums, retry_if_failed=RETRIES)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT):
            for name in files:
                source.fetch(name, downloader=_fetch)
            yield
    except (OSError, ValueError, RuntimeError) as error:
        text = f"cannot download {', '.join(files)} to {folder}: {one_line(error)}"
        advice = "If there is no network, set NASCORE_MIRROR to an address or folder that has them."
        raise DataError(f"{text} {advice}") from error


def _fetch(address: str, output: str, source: Any) -> None:
    """Downloads a file, or copies it from a local folder."""
    if "://" in address:
        import pooch

        pooch.HTTPDownloader(timeout=TIMEOUT)(address, output, source)
    else:
        shutil.copyfile(Path(address).expanduser(), output)


def _unzipped(path: Path, md5: str) -> np.ndarray:
    """The bytes of a file, plain or gzipped. Raises DataError if it is damaged."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            raise ValueError(f"the MD5 sum of its content is not {md5}")
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Delete it and run again.") from None
    return np.frombuffer(raw, np.uint8).copy()
