"""Datasets as plug-ins: what is known of one beforehand, how it is read, and those of the package.

A dataset's own test part is never read. Two environment variables say where files are:
NASCORE_DATA, the folder that keeps them (default ~/.cache/nascore), and
NASCORE_MIRROR, an address or a local folder that holds the archives under their original names.
"""

import gzip
import hashlib
import os
import shutil
import socket
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from itertools import product
from numbers import Integral
from pathlib import Path
from tarfile import TarError

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from nascore.errors import ConfigError, DataError, checked
from nascore.folders import ensure_writable
from nascore.plugins import Registry, failure, is_built_in

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
}
"""MD5 sums of the unzipped files: of what is in the archives whose sums torchvision knows. Debian's
are zipped anew, so their own sums are others, and what is in them is the same."""

SILENCE = 60  # seconds without an answer after which a download fails
PATIENCE = 1800  # seconds to wait for another process that downloads
Arrays = tuple[np.ndarray, np.ndarray]  # images and labels


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its files are read, and how to read them.

    Arguments:
        examples: size of its training part.
        channels: those of an image.
        read: returns images (examples, channels, H, W) uint8 or float, which need not be square,
            and labels (examples,), whole numbers from 0 to classes - 1.

    Raises ConfigError if a number is not at least 1.
    """

    name: str
    examples: int
    classes: int
    channels: int
    read: Callable[[], Arrays]

    def __post_init__(self):
        for name in ("examples", "classes", "channels"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                given = f"dataset {self.name!r}: {name}={value!r}"
                raise ConfigError(f"{given} is not a whole number from 1 up.")

    @property
    def __wrapped__(self) -> Callable[[], Arrays]:
        """The function whose module and source stand for the dataset."""
        return self.read

    def load(self) -> tuple[Tensor, Tensor]:
        """Images (examples, channels, H, W) uint8 or float32, and labels (examples,) int64.

        Raises DataError: what ``read`` returned, and what is allowed.
        """

        def check(fine: bool, found: str, allowed: str) -> None:
            if not fine:
                raise DataError(f"dataset {self.name!r} has {found} instead of {allowed}.")

        try:
            parts = self.read()
        except Exception as error:
            if is_built_in(self):
                raise
            why = failure(self, error)
            raise DataError(f"dataset {self.name!r} cannot be read, {why}") from error
        n, top = self.examples, self.classes - 1
        kinds = [type(part).__name__ for part in parts] if isinstance(parts, tuple) else []
        found = f"({', '.join(kinds)})" if kinds else type(parts).__name__
        check(len(kinds) == 2, found, "a tuple of images and labels")
        images, labels = map(np.asarray, parts)
        fine = images.ndim == 4 and images.shape[:2] == (n, self.channels) and images.size > 0
        shape = f"({n}, {self.channels}, height, width)"
        check(fine, f"images of shape {images.shape}", shape)
        fine = images.dtype == np.uint8 or images.dtype.kind == "f"
        check(fine, f"images of type {images.dtype}", "uint8 or float")
        check(labels.shape == (n,), f"labels of shape {labels.shape}", f"({n},)")
        check(labels.dtype.kind in "iu", f"labels of type {labels.dtype}", "whole numbers")
        low, high = labels.min(), labels.max()
        check(low >= 0 and high <= top, f"labels from {low} to {high}", f"labels from 0 to {top}")
        if images.dtype != np.uint8:
            with np.errstate(over="ignore"):
                images = images.astype(np.float32)
            bad = np.unique(images[~np.isfinite(images)])
            check(not bad.size, f"pixels that are {', '.join(map(str, bad))}", "finite numbers")
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
    ``SearchConfig(dataset="module:name")``. The address of a run holds a digest of the function's
    source, not of the files that it reads: give other data another name.

    Arguments:
        examples, classes, channels, and what the function returns: see Dataset.
        replace: take the name over from another dataset.

    Raises ConfigError if the name is in use. What the function returns is checked when a search
    starts: DataError.

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
        plugin = Dataset(name, examples, classes, channels, read)
        return DATASETS.register(name, replace=replace)(plugin)

    return add


@dataset("digits", examples=1797, classes=10, channels=1)
def digits() -> Arrays:
    """Handwritten digits of 8x8 in 17 grey levels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images[:, None].astype(np.float32), bunch.target


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
    from torchvision.datasets import FashionMNIST

    folders = [data_folder() / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST]

    def find() -> list[Path] | None:
        for folder, suffix in product(folders, ("", ".gz")):
            paths = [folder / (name + suffix) for name in FASHION_MNIST]
            if all(os.path.exists(path) for path in paths):
                return paths
        return None

    paths = find()
    if paths is None:
        with _downloads("Fashion-MNIST") as root:
            address = _from_mirror(FashionMNIST.mirrors[0], FashionMNIST.resources, folders[0])
            type("FashionMNIST", (FashionMNIST,), {"mirrors": [address]})(root, download=True)
        paths = find()
    images, labels = map(read_idx, paths, FASHION_MNIST.values())
    if images.ndim != 3 or len(images) != len(labels):
        raise DataError(f"{paths[0]} and {paths[1]} do not belong together. Delete both.")
    return images[:, None], labels


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

    base = getattr(torchvision.datasets, name)
    try:
        cifar = base(data_folder())  # checks the MD5 sum of every file, and writes nothing
    except OSError as error:
        raise DataError(f"{name} cannot be read from {data_folder()}: {error}.") from None
    except RuntimeError:  # something is missing, or has another sum
        with _downloads(name) as root:
            files = [(base.filename, base.tgz_md5)]
            address = _from_mirror(base.url.removesuffix(base.filename), files, root)
            source = type(name, (base,), {"url": address + base.filename})
            cifar = source(root, download=True)
    return cifar.data.transpose(0, 3, 1, 2).copy(), np.array(cifar.targets)


def data_folder() -> Path:
    """The folder of downloaded datasets; NASCORE_DATA chooses another."""
    return _path("NASCORE_DATA", os.environ.get("NASCORE_DATA") or "~/.cache/nascore")


def _path(variable: str, text: str) -> Path:
    """The folder that an environment variable names. Raises DataError if ~ stands for nothing."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        why = "~ stands for no home folder here"
        raise DataError(f"{variable}={text!r}: {why}. Write the whole path.") from None


@contextmanager
def _downloads(name: str) -> Iterator[Path]:
    """The data folder, for one process at a time, while torchvision downloads and checks files."""
    advice = "Set NASCORE_DATA to a folder that you may write to."
    root = ensure_writable(data_folder(), DataError, advice)
    lock, timeout = _locked(root / ".lock", name), socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # torchvision would wait for ever
    try:
        yield root
    except (RuntimeError, OSError, EOFError, ValueError, *_OF_A_HOST) as error:
        raise DataError(
            f"{name} could not be read into {root}: {error} Delete what is damaged; if the host "
            "is out of reach, set NASCORE_MIRROR to an address or folder that holds the archive."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        lock.release()


_OF_A_HOST = (HTTPException, TarError, zlib.error)
"""What a strange answer raises."""


def _locked(path: Path, name: str) -> FileLock:
    """A lock that this process holds. Says so if it has to wait for another one.

    Raises DataError after ``PATIENCE`` seconds.
    """
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=min(1, PATIENCE)).lock
    except Timeout:
        print(f"Waiting for another process that reads {name} into {path.parent}", file=sys.stderr)
    try:
        return lock.acquire(timeout=PATIENCE).lock
    except Timeout:
        waited = f"another process has held {path} for {PATIENCE} seconds"
        raise DataError(f"{name}: {waited}. Wait for it or end it, and run again.") from None


def _from_mirror(address: str, files: list[tuple[str, str]], folder: Path) -> str:
    """The address to download from, which ends in a slash: NASCORE_MIRROR if it is set.

    If that is a local folder, its files (name, MD5 sum) are checked and copied to ``folder``, so
    that nothing is left to download.
    """
    from torchvision.datasets.utils import check_integrity

    mirror = os.environ.get("NASCORE_MIRROR") or address
    if "://" in mirror:
        return mirror.rstrip("/") + "/"
    folder.mkdir(parents=True, exist_ok=True)
    for name, md5 in files:
        archive = _path("NASCORE_MIRROR", mirror) / name
        if not check_integrity(archive, md5):
            raise RuntimeError(f"{archive} is missing, or its MD5 sum is not {md5}.")
        shutil.copyfile(archive, folder / name)
    return address


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """The uint8 array in a file of MNIST's IDX format, plain or gzipped.

    Arguments:
        md5: the MD5 sum that the file has, unzipped; None for any.

    Raises DataError, naming the file, if it is unreadable, damaged or truncated.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if md5 not in (None, found):
            raise ValueError(f"what it holds has the MD5 sum {found}, not {md5}")
        if raw[:3] != b"\x00\x00\x08":
            raise ValueError("it is not an IDX file of bytes")
        shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Delete it and run again.") from None
