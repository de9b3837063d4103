import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import warnings

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from nascore.engine.random import stream
from nascore.errors import DataError
from nascore.runs import data
from nascore.runs.data import DATASETS, crop_and_flip, load_splits, read_idx

CPU = torch.device("cpu")
SIZES = {"train": 600, "search": 500, "valid": 400}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A data folder of the test's own, and no copy of a dataset anywhere else."""
    monkeypatch.setenv("NASCORE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("NASCORE_MIRROR", raising=False)
    monkeypatch.setattr(data, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    return tmp_path


def idx(array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def images_and_labels(n=20):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (n, 28, 28)), generator.integers(0, 10, n)


def write_fashion_mnist(folder):
    folder.mkdir(parents=True)
    images, labels = images_and_labels()
    for name, array in (("train-images-idx3", images), ("train-labels-idx1", labels)):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return images, labels


def test_splits_are_disjoint_and_keep_their_labels():
    splits = load_splits("digits", SIZES, 0, CPU)
    index = [set(split.index.tolist()) for split in splits.values()]
    assert [len(part) for part in index] == [600, 500, 400]
    assert len(set.union(*index)) == 1500
    _, labels = DATASETS["digits"].read()
    for split in splits.values():
        assert torch.equal(split.labels, torch.from_numpy(labels)[split.index])


def test_seed_decides_the_split():
    one, same, other = (load_splits("digits", SIZES, seed, CPU)["train"] for seed in (0, 0, 1))
    assert torch.equal(one.images, same.images) and torch.equal(one.index, same.index)
    assert not torch.equal(one.index, other.index)


def test_images_are_normalised_and_channels_last():
    images = load_splits("digits", {"train": 1797, "search": 0, "valid": 0}, 0, CPU)["train"].images
    assert images.shape == (1797, 1, 8, 8)
    assert images.mean().abs() < 1e-5 and abs(images.std() - 1) < 1e-4
    split = load_splits("synthetic", {"train": 96, "search": 0, "valid": 0}, 0, CPU)["train"]
    assert split.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [4, 5, 8, 12])
def test_image_size_pools_or_pads(size):
    split = load_splits("digits", SIZES, 0, CPU, image_size=size)["train"]
    assert split.images.shape == (600, 1, size, size)


def test_padding_keeps_the_image_in_the_middle():
    images = torch.rand(2, 1, 4, 4)
    padded = data._resized(images, 7)
    assert torch.equal(padded[:, :, 1:5, 1:5], images)
    assert padded.sum() == pytest.approx(images.sum().item())


def test_label_noise_replaces_the_stated_share_once():
    clean, noisy, again = (
        load_splits("digits", SIZES, 0, CPU, label_noise=share) for share in (0.0, 0.4, 0.4)
    )
    labels = [torch.cat([s.labels for s in splits.values()]) for splits in (clean, noisy, again)]
    assert torch.equal(labels[1], labels[2])
    changed = (labels[0] != labels[1]).float().mean()
    # 600 of 1500 are redrawn, 0.36 of all change in the mean; 4 standard deviations are 0.02.
    assert abs(changed - 0.36) < 0.02


def test_batches_are_full_and_each_example_comes_at_most_once():
    split = load_splits("digits", SIZES, 0, CPU)["train"]
    generator = stream(0, "train")
    endless = split.batches(96, generator)
    batches = [next(endless) for _ in range(6)]  # one epoch
    assert [len(labels) for _, labels in batches] == [96] * 6
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    assert len(seen.unique(dim=0)) == 576
    assert not torch.equal(next(endless)[0], batches[0][0])


def test_chunks_hold_every_example_in_order():
    split = load_splits("digits", SIZES, 0, CPU)["search"]
    images, labels = zip(*split.chunks(96), strict=True)
    assert torch.equal(torch.cat(images), split.images)
    assert torch.equal(torch.cat(labels), split.labels)
    assert {len(part) for part in labels} == {100}


def test_crop_and_flip_shifts_or_mirrors_each_image():
    """Every result is found among all shifts of the image or of its mirror image."""
    images = torch.rand(40, 2, 6, 6)
    result = crop_and_flip(images, stream(0, "train"))
    found = set()
    for before, after in zip(images, result, strict=True):
        matches = set()
        for flipped in (False, True):
            padded = torch.nn.functional.pad(before.flip(2) if flipped else before, (4,) * 4)
            for row in range(9):
                for column in range(9):
                    if torch.equal(padded[:, row : row + 6, column : column + 6], after):
                        matches.add((flipped, row, column))
        assert matches
        found |= matches
    assert len({flip for flip, _, _ in found}) == 2 and len(found) > 30


def test_fashion_mnist_from_the_data_folder_first(folder):
    images, labels = write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw")
    (folder / "debian").mkdir()
    read_images, read_labels = DATASETS["fashion-mnist"].read()
    assert (read_images[:, 0] == images).all() and (read_labels == labels).all()


def test_a_dataset_that_is_too_small_is_refused(folder):
    write_fashion_mnist(folder / "debian")
    with pytest.raises(DataError, match="fashion-mnist has 20 examples instead of 60000"):
        load_splits("fashion-mnist", SIZES, 0, CPU)


def test_fashion_mnist_from_debians_folder(folder):
    images, _ = write_fashion_mnist(folder / "debian")
    assert (DATASETS["fashion-mnist"].read()[0][:, 0] == images).all()


def test_fashion_mnist_downloads_from_a_mirror_and_checks_md5(folder, monkeypatch):
    mirror = folder / "mirror"
    images, labels = write_fashion_mnist(mirror)
    for name, array in (("t10k-images-idx3", images), ("t10k-labels-idx1", labels)):
        (mirror / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    monkeypatch.setenv("NASCORE_MIRROR", str(mirror))
    with pytest.raises(DataError, match="its MD5 sum is not"):
        DATASETS["fashion-mnist"].read()
    sums = [
        (name, hashlib.md5((mirror / name).read_bytes()).hexdigest())
        for name, _ in FashionMNIST.resources
    ]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    assert (DATASETS["fashion-mnist"].read()[0][:, 0] == images).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-9] + bytes(9),
        lambda raw: b"not gzip at all",
        lambda raw: gzip.compress(gzip.decompress(raw)[:-100]),
        lambda raw: gzip.compress(b"\x01" + gzip.decompress(raw)[1:]),
        lambda raw: b"",
    ],
)
def test_a_damaged_file_is_named_and_not_half_read(folder, damage):
    write_fashion_mnist(folder / "debian")
    path = folder / "debian" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged.*Delete it"):
        DATASETS["fashion-mnist"].read()


def test_images_and_labels_must_belong_together(folder):
    write_fashion_mnist(folder / "debian")
    path = folder / "debian" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(7))))
    with pytest.raises(DataError, match="do not belong together"):
        DATASETS["fashion-mnist"].read()


def test_read_idx_plain(tmp_path):
    images, _ = images_and_labels()
    (tmp_path / "images").write_bytes(idx(images))
    assert (read_idx(tmp_path / "images") == images).all()


def write_cifar(mirror, base, monkeypatch):
    """An archive in CIFAR's own format, three images a file, whose MD5 sums torchvision expects."""
    mirror.mkdir()
    generator, files, expected = np.random.default_rng(0), {}, []
    names = {
        "train_list": [name for name, _ in base.train_list],
        "test_list": [name for name, _ in base.test_list],
    }
    key = "labels" if base is CIFAR10 else "fine_labels"
    for name in names["train_list"] + names["test_list"]:
        pixels = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": pixels, key: [0, 1, 2]})
        if name in names["train_list"]:
            expected.append(pixels.reshape(3, 3, 32, 32))
    meta = base.meta["filename"]
    files[meta] = pickle.dumps({base.meta["key"]: ["a", "b", "c"]})
    with tarfile.open(mirror / base.filename, "w:gz") as tar:
        for name, raw in files.items():
            entry = tarfile.TarInfo(f"{base.base_folder}/{name}")
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))

    def md5(raw):
        return hashlib.md5(raw).hexdigest()

    monkeypatch.setattr(base, "tgz_md5", md5((mirror / base.filename).read_bytes()))
    for name, listed in names.items():
        monkeypatch.setattr(base, name, [[file, md5(files[file])] for file in listed])
    monkeypatch.setattr(base, "meta", {**base.meta, "md5": md5(files[meta])})
    monkeypatch.setenv("NASCORE_MIRROR", str(mirror))
    return np.concatenate(expected)


@pytest.mark.parametrize("name, base", [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_cifar_from_a_local_archive(folder, monkeypatch, name, base):
    expected = write_cifar(folder / "mirror", base, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision and pickle disagree about an align flag
        images, labels = DATASETS[name].read()
    assert (images == expected).all()
    assert labels.tolist() == [0, 1, 2] * (len(expected) // 3)


def test_cifar_with_a_wrong_md5_is_refused(folder, monkeypatch):
    write_cifar(folder / "mirror", CIFAR10, monkeypatch)
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz is missing, or its MD5"):
        DATASETS["cifar10"].read()


def test_a_damaged_cifar_folder_says_what_to_do(folder, monkeypatch):
    write_cifar(folder / "mirror", CIFAR10, monkeypatch)
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", "0" * 32]])
    with pytest.raises(DataError, match=r"CIFAR10 could not be read.*NASCORE_MIRROR"):
        DATASETS["cifar10"].read()


def test_a_data_folder_that_cannot_be_written(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setenv("NASCORE_DATA", str(folder / "file" / "data"))
    with pytest.raises(DataError, match="cannot write to .*NASCORE_DATA"):
        DATASETS["fashion-mnist"].read()


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_what_is_known_beforehand_is_true(name):
    dataset = DATASETS[name]
    images, labels = dataset.read()
    assert len(images) == len(labels) == dataset.examples
    assert images.shape[1] == dataset.channels
    assert set(labels) == set(range(dataset.classes))
