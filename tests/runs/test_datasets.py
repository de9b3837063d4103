import gzip
import hashlib
import importlib
import io
import linecache
import os
import pickle
import struct
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from nascore import RunStore, SearchConfig, search, sweep
from nascore.errors import ConfigError, DataError
from nascore.plugins import source_digest
from nascore.runs import datasets
from nascore.runs.data import load_splits
from nascore.runs.datasets import DATASETS, dataset

DEBIAN = datasets.DEBIAN_FASHION_MNIST


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(DATASETS, "_known", dict(DATASETS._known))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A data folder of the test's own, no copy of a dataset anywhere else, and no network."""
    monkeypatch.setenv("NASCORE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:1/"])
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "url", "http://127.0.0.1:1/")
    return tmp_path


def write_fashion_mnist(folder, suffix=""):
    """Twenty images and labels as IDX files, in torchvision's four files; returns them."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (20, 28, 28)), generator.integers(0, 10, 20)
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            shape = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            raw = shape + array.astype(np.uint8).tobytes()
            path = folder / f"{part}-{name}-ubyte{suffix}"
            path.write_bytes(gzip.compress(raw) if suffix else raw)
    return images, labels


@pytest.mark.parametrize("where", ["data/FashionMNIST/raw", "debian"])
def test_fashion_mnist_on_disk(folder, where):
    suffix = ".gz" if where == "debian" else ""
    images, labels = write_fashion_mnist(folder / where, suffix)
    read_images, read_labels = DATASETS["fashion-mnist"].read()
    assert (read_images[:, 0] == images).all() and (read_labels == labels).all()
    with pytest.raises(DataError, match=r"images of shape \(20, 1, 28, 28\) instead of"):
        DATASETS["fashion-mnist"].load()
    path = folder / where / f"train-images-idx3-ubyte{suffix}"
    raw = path.read_bytes()
    for damaged in (raw[: len(raw) // 2], b"not an image at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read|instead of") as error:
            DATASETS["fashion-mnist"].load()
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package of Fashion-MNIST is not here")
def test_debians_fashion_mnist(monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", DEBIAN)
    images, labels = DATASETS["fashion-mnist"].load()
    assert images.shape == (60_000, 1, 28, 28) and labels.bincount().tolist() == [6000] * 10
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert digest == "1f243a60b4b748a44c48b9a6f6907be2a08bee3e4e226f0e86fbde8e147b745a"


def test_an_archive_in_the_folder_is_unpacked(folder, monkeypatch):
    images, _ = write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw", ".gz")
    archives = (folder / "data").rglob("*.gz")
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in archives]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    assert (DATASETS["fashion-mnist"].read()[0][:, 0] == images).all()


def test_two_at_once_download_once(folder, monkeypatch):
    downloads = []

    def download(self):
        if not self._check_exists():
            downloads.append(self)
            time.sleep(0.2)
            write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw")

    monkeypatch.setattr(FashionMNIST, "download", download)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: DATASETS[name].read(), ["fashion-mnist"] * 2)
    assert (first[0] == second[0]).all() and len(first[0]) == 20 and len(downloads) == 1
    assert not list((folder / "data").glob(".*"))  # no lock


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_killed_download_leaves_the_users_of_its_folder_can_finish(
    folder, monkeypatch, umask, shared
):
    (folder / "data").mkdir()
    (folder / "data").chmod(0o775 if shared else 0o755)
    monkeypatch.setattr(
        FashionMNIST, "download", lambda _: write_fashion_mnist(folder / "data/FashionMNIST/raw")
    )
    DATASETS["fashion-mnist"].read()
    made = list((folder / "data").rglob("*"))
    assert len(made) == 6 and all(bool(path.stat().st_mode & 0o020) == shared for path in made)
    assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_without_a_network_it_says_what_to_do(folder, name):
    with pytest.raises(DataError, match="refused.*elsewhere, and set NASCORE_DATA to") as error:
        DATASETS[name].load()
    assert "\n" not in str(error.value) and str(folder / "data") in str(error.value)


def test_a_data_folder_that_cannot_be_made(folder, monkeypatch):
    (folder / "file").write_text("", encoding="utf-8")
    for path, why in ((str(folder / "file" / "data"), "NASCORE_DATA"), ("~no_such_user/x", "home")):
        monkeypatch.setenv("NASCORE_DATA", path)
        with pytest.raises(DataError, match=why):
            DATASETS["fashion-mnist"].load()


def write_cifar(folder, base, monkeypatch):
    """An archive in CIFAR's own format, three images a file, whose MD5 sums torchvision expects."""
    folder.mkdir()
    generator, files, expected = np.random.default_rng(0), {}, []
    key = "labels" if base is CIFAR10 else "fine_labels"
    for name, _ in base.train_list + base.test_list:
        pixels = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": pixels, key: [0, 1, 2]})
        expected.append(pixels.reshape(3, 3, 32, 32))
    meta = base.meta["filename"]
    files[meta] = pickle.dumps({base.meta["key"]: ["a", "b", "c"]})
    with tarfile.open(folder / base.filename, "w:gz") as tar:
        for name, raw in files.items():
            entry = tarfile.TarInfo(f"{base.base_folder}/{name}")
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))

    def md5(raw):
        return hashlib.md5(raw).hexdigest()

    monkeypatch.setattr(base, "tgz_md5", md5((folder / base.filename).read_bytes()))
    for names in ("train_list", "test_list"):
        sums = [[name, md5(files[name])] for name, _ in getattr(base, names)]
        monkeypatch.setattr(base, names, sums)
    monkeypatch.setattr(base, "meta", {**base.meta, "md5": md5(files[meta])})
    return np.concatenate(expected[: len(base.train_list)])


@pytest.mark.filterwarnings("ignore")  # torchvision and pickle disagree about an align flag
@pytest.mark.parametrize("name, base", [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_cifar(folder, monkeypatch, name, base):
    """Unpacked if need be, also in place of a damaged file; else the folder may be read-only."""
    expected = write_cifar(folder / "data", base, monkeypatch)
    images, labels = DATASETS[name].read()
    assert (images == expected).all()
    assert labels.tolist() == [0, 1, 2] * (len(expected) // 3)
    (folder / "data" / base.base_folder / base.train_list[0][0]).write_bytes(b"x")
    assert (DATASETS[name].read()[0] == expected).all()
    monkeypatch.setattr(datasets, "held", lambda *_, **__: pytest.fail("the folder is written to"))
    assert (DATASETS[name].read()[0] == expected).all()


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_what_is_known_beforehand_is_true(name):
    dataset = DATASETS[name]
    images, labels = dataset.read()
    assert len(images) == len(labels) == dataset.examples
    assert images.shape[1] == dataset.channels
    assert set(labels) == set(range(dataset.classes))


def images_of(shape=(6, 1, 8, 8), dtype=np.float32):
    return np.zeros(shape, dtype)


def labels_of(*labels, dtype=np.int64):
    return np.array(labels or [0, 1, 2, 0, 1, 2], dtype)


@pytest.mark.parametrize(
    "returned, found",
    [
        ((images_of((6, 8, 8)), labels_of()), r"images of shape \(6, 8, 8\) instead of \(6, 1, h"),
        ((images_of((5, 1, 8, 8)), labels_of()), r"images of shape \(5, 1, 8, 8\) instead of"),
        ((images_of() + np.nan, labels_of()), "pixels that are infinite or NaN instead"),
        ((images_of(), labels_of(0, 1)), r"labels of shape \(2,\), int64 instead of \(6,\)"),
        ((images_of(), labels_of(dtype=float)), "labels of shape .*float64 instead of .*integers"),
        ((images_of(), labels_of(1, 2, 3, 1, 2, 3)), "labels from 1 to 3 instead of .* 0 to 2"),
        ((images_of(), labels_of(0, 1, 2, 0, 1, -1)), "labels from -1 to 2 instead of .* 0 to 2"),
    ],
)
def test_what_a_dataset_returns_is_checked(returned, found):
    @dataset("mine", examples=6, classes=3, channels=1)
    def mine():
        return returned

    with pytest.raises(DataError, match=f"^dataset 'mine' has .*{found}"):
        mine.load()
    with pytest.raises(DataError, match="dataset 'mine' has"):
        load_splits(SearchConfig(dataset="mine", batch_size=2), "cpu")


@pytest.mark.parametrize("dtype", ["u1", "f2", ">f4", "i8"])
def test_a_dataset_may_return_any_layout_of_numbers(dtype):
    """Also mirrored arrays and those that must not be written, such as files mapped to memory."""
    images = np.arange(6 * 12).reshape(6, 1, 3, 4).astype(dtype)[..., ::-1]
    images.flags.writeable = False
    mine = dataset("mine", examples=6, classes=3, channels=1)(
        lambda: (images, labels_of(dtype="u2"))
    )
    loaded, labels = mine.load()
    assert loaded.dtype == (torch.uint8 if dtype == "u1" else torch.float32)
    assert loaded.tolist() == images.tolist()
    assert labels.dtype == torch.int64 and labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("wrong", [{"examples": 0}, {"classes": -1}, {"channels": 1.5}])
def test_what_is_stated_of_a_dataset_is_checked(wrong):
    ((name, value),) = wrong.items()
    stated = {"examples": 6, "classes": 3, "channels": 1} | wrong
    with pytest.raises(ConfigError, match=f"{name}={value}.*(at least 1|violates)"):
        dataset("mine", **stated)(lambda: None)


def test_a_name_of_the_package_cannot_be_taken():
    with pytest.raises(ConfigError, match="'digits' is registered twice.*Choose another name"):
        dataset("digits", examples=6, classes=3, channels=1)(images_of)


def test_a_function_that_is_not_decorated_is_refused():
    with pytest.raises(ConfigError, match="not a dataset: decorate the function"):
        SearchConfig(dataset=f"{__name__}:images_of")


def test_a_name_that_is_unknown_says_what_is_allowed():
    with pytest.raises(ConfigError, match="unknown dataset 'digit'.*Did you mean 'digits'"):
        SearchConfig(dataset="digit")


MODULE = """
import numpy as np
from nascore.runs.datasets import dataset

@dataset("mine", examples=64, classes=2, channels=1)
def mine():
    labels = np.arange(64) % 2
    return np.random.default_rng(0).normal(size=(64, 1, 5, 8)) + labels[:, None, None, None], labels
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that worker processes can import, too; returns its name."""
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")

    def write(text, name="nascore_test_dataset"):
        (tmp_path / "modules" / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        linecache.checkcache()
        sys.modules.pop(name, None)
        return name

    yield write
    sys.modules.pop("nascore_test_dataset", None)


@pytest.mark.long
def test_a_dataset_of_ones_own_in_worker_processes(module, tmp_path):
    config = SearchConfig(
        dataset=f"{module(MODULE)}:mine",
        cells=1,
        channels=4,
        batch_size=32,
        epochs=1,
    )
    runs = sweep(
        [config, config.replace(seed=1)], store=tmp_path / "runs", workers=2, progress=False
    )
    for run in runs:
        assert run.history.examples.sel(split="train").sum("outcome").values.tolist() == [64, 64]
    here = search(config, progress=False)
    assert here.history.drop_vars("seconds").identical(runs[0].history.drop_vars("seconds"))
    (path, _) = sorted((tmp_path / "runs").iterdir())
    assert path.name.startswith("dsnas-single-") and "test_dataset.mine-seed0-" in path.name
    assert RunStore(tmp_path / "runs").get(config).config == config


def test_the_source_of_a_dataset_is_told_from_another(module):
    """What is stated of it as well."""
    digests = set()
    for text in (MODULE, MODULE.replace("rng(0)", "rng(1)"), MODULE.replace("s=2", "s=3"), MODULE):
        digests.add(source_digest(DATASETS[f"{module(text)}:mine"]))
    assert len(digests) == 3


def test_a_dataset_that_fails_names_its_line():
    @dataset("fails", examples=4, classes=2, channels=1)
    def fails():
        return [].pop()

    with pytest.raises(DataError, match=r"'fails' cannot be read, line \d+ of .*: IndexError: pop"):
        DATASETS["fails"].load()
    alone = dataset("alone", examples=4, classes=2, channels=1)(images_of)
    with pytest.raises(DataError, match=r"'alone' cannot be read, ValueError: .*unpack"):
        alone.load()
