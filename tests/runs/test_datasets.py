import gzip
import hashlib
import importlib
import io
import linecache
import pickle
import socket
import struct
import sys
import tarfile
import warnings

import numpy as np
import pytest
import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from nascore import RunStore, SearchConfig, search, sweep
from nascore.errors import ConfigError, DataError
from nascore.runs import datasets
from nascore.runs.data import load_splits
from nascore.runs.datasets import DATASETS, dataset, read_idx

DEBIAN = datasets.DEBIAN_FASHION_MNIST


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(DATASETS, "_known", dict(DATASETS._known))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A data folder of the test's own, and no copy of a dataset anywhere else."""
    monkeypatch.setenv("NASCORE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("NASCORE_MIRROR", raising=False)
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    return tmp_path


def idx(array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def images_and_labels(n=20):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (n, 28, 28)), generator.integers(0, 10, n)


def write_fashion_mnist(folder, suffix=".gz"):
    """Twenty images and labels, whose MD5 sums are those that ``small`` expects."""
    folder.mkdir(parents=True)
    images, labels = images_and_labels()
    for name, array in zip(datasets.FASHION_MNIST, (images, labels), strict=True):
        raw = idx(array)
        (folder / (name + suffix)).write_bytes(gzip.compress(raw) if suffix else raw)
    return images, labels


@pytest.fixture
def small(monkeypatch):
    """Fashion-MNIST with twenty images."""
    sums = [hashlib.md5(idx(array)).hexdigest() for array in images_and_labels()]
    names = zip(datasets.FASHION_MNIST, sums, strict=True)
    monkeypatch.setattr(datasets, "FASHION_MNIST", dict(names))


@pytest.mark.usefixtures("small")
def test_fashion_mnist_from_the_data_folder_first(folder):
    images, labels = write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw")
    (folder / "debian").mkdir()
    read_images, read_labels = DATASETS["fashion-mnist"].read()
    assert (read_images[:, 0] == images).all() and (read_labels == labels).all()


@pytest.mark.usefixtures("small")
def test_a_dataset_that_is_too_small_is_refused(folder):
    write_fashion_mnist(folder / "debian")
    with pytest.raises(
        DataError,
        match=r"'fashion-mnist' has images of shape \(20, 1, 28, 28\) instead of \(60000, 1, ",
    ):
        DATASETS["fashion-mnist"].load()


@pytest.mark.usefixtures("small")
def test_fashion_mnist_from_debians_folder(folder):
    images, _ = write_fashion_mnist(folder / "debian")
    assert (DATASETS["fashion-mnist"].read()[0][:, 0] == images).all()


@pytest.mark.usefixtures("small")
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


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("where", ["data/FashionMNIST/raw", "debian"])
@pytest.mark.usefixtures("small")
def test_one_changed_pixel_is_seen_in_any_file(folder, where, suffix):
    """The shape is as it should be, and nothing but the MD5 sum tells."""
    images, _ = write_fashion_mnist(folder / where, suffix)
    images[3, 14, 14] ^= 1
    path = folder / where / f"train-images-idx3-ubyte{suffix}"
    raw = idx(images)
    path.write_bytes(gzip.compress(raw) if suffix else raw)
    with pytest.raises(DataError, match=f"{path} is damaged: .* MD5 sum .*, not .*Delete it"):
        DATASETS["fashion-mnist"].read()


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package of Fashion-MNIST is not here")
def test_debians_files_have_the_sums_of_the_originals(monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", DEBIAN)
    images, labels = DATASETS["fashion-mnist"].load()
    assert images.shape == (60_000, 1, 28, 28) and labels.bincount().tolist() == [6000] * 10


def test_images_and_labels_must_belong_together(folder, monkeypatch):
    write_fashion_mnist(folder / "debian")
    path = folder / "debian" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(7))))
    monkeypatch.setattr(datasets, "FASHION_MNIST", dict.fromkeys(datasets.FASHION_MNIST))
    with pytest.raises(DataError, match="do not belong together"):
        DATASETS["fashion-mnist"].read()


def entries(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


@pytest.mark.usefixtures("small")
def test_nothing_is_written_where_everything_is_there(folder, monkeypatch):
    """A folder that may only be read will do."""
    write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw", "")
    write_cifar(folder / "mirror", CIFAR10, monkeypatch)
    with tarfile.open(folder / "mirror" / CIFAR10.filename) as tar:
        tar.extractall(folder / "data", filter="data")
    before = entries(folder / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision and pickle disagree about an align flag
        for name in ("fashion-mnist", "cifar10"):
            DATASETS[name].read()
    assert entries(folder / "data") == before


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch, name):
    write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw")

    def refuse(*args, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(datasets.Path, "read_bytes", refuse)
    monkeypatch.setattr(CIFAR10, "__init__", refuse)
    with pytest.raises(DataError, match=f"{folder}/data.*Permission denied"):
        DATASETS[name].read()


@pytest.mark.parametrize("variable", ["NASCORE_DATA", "NASCORE_MIRROR"])
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_home_that_is_nobodys_is_named(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "~no_such_user/x")
    with pytest.raises(DataError, match=f"{variable}='~no_such_user/x'.*Write the whole path"):
        DATASETS[name].read()


@pytest.fixture
def silent():
    """The address of a host that accepts a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100"])
def test_a_mirror_that_never_answers_times_out(folder, monkeypatch, silent, name):
    monkeypatch.setattr(datasets, "SILENCE", 0.2)
    monkeypatch.setenv("NASCORE_MIRROR", silent)
    with pytest.raises(DataError, match="timed out.*set NASCORE_MIRROR"):
        DATASETS[name].read()
    assert socket.getdefaulttimeout() is None
    with FileLock(folder / "data" / ".lock", timeout=0):
        pass  # it is free again


@pytest.mark.parametrize(
    "mirror", ["http://[", "nowhere://x", "http://127.0.0.1:1", "http://127.0.0.1:99999", "/", "x"]
)
@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_mirror_that_is_none_is_one_message(monkeypatch, mirror, name):
    monkeypatch.setenv("NASCORE_MIRROR", mirror)
    with pytest.raises(DataError, match="set NASCORE_MIRROR to an address or folder"):
        DATASETS[name].read()


def test_who_waits_for_another_process_says_so_and_not_for_ever(folder, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "PATIENCE", 0.2)
    (folder / "data").mkdir()
    with FileLock(folder / "data" / ".lock"), pytest.raises(DataError) as refused:
        DATASETS["cifar10"].read()
    assert f"CIFAR10: another process has held {folder}/data/.lock" in str(refused.value)
    assert "Waiting for another process that reads CIFAR10" in capsys.readouterr().err


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


def images_of(shape=(6, 1, 8, 8), dtype=np.float32):
    return np.zeros(shape, dtype)


def labels_of(*labels, dtype=np.int64):
    return np.array(labels or [0, 1, 2, 0, 1, 2], dtype)


@pytest.mark.parametrize(
    "returned, found",
    [
        (images_of(), "ndarray instead of a tuple of images and labels"),
        ((images_of(), labels_of(), 3), r"\(ndarray, ndarray, int\) instead of a tuple"),
        ((images_of((6, 8, 8)), labels_of()), r"images of shape \(6, 8, 8\) instead of \(6, 1, h"),
        ((images_of((6, 3, 8, 8)), labels_of()), r"images of shape \(6, 3, 8, 8\) instead of"),
        ((images_of((5, 1, 8, 8)), labels_of()), r"images of shape \(5, 1, 8, 8\) instead of"),
        ((images_of((6, 1, 0, 8)), labels_of()), r"images of shape \(6, 1, 0, 8\) instead of"),
        ((images_of(dtype=np.int64), labels_of()), "images of type int64 instead of uint8 or"),
        ((images_of() + np.nan, labels_of()), "pixels that are nan instead of finite"),
        ((images_of(dtype="f8") + 1e300, labels_of()), "pixels that are inf instead of finite"),
        ((images_of(), labels_of(0, 1)), r"labels of shape \(2,\) instead of \(6,\)"),
        ((images_of(), labels_of()[:, None]), r"labels of shape \(6, 1\) instead of \(6,\)"),
        ((images_of(), labels_of(dtype=float)), "labels of type float64 instead of whole"),
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


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8", ">f4"])
def test_a_dataset_may_return_any_layout_of_bytes_or_floats(dtype):
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
    with pytest.raises(ConfigError, match=f"{name}={value} (is not a whole|violates)"):
        dataset("mine", **stated)(lambda: None)


def test_a_name_is_taken_over_only_if_asked():
    stated = {"examples": 6, "classes": 3, "channels": 1}
    with pytest.raises(ConfigError, match="'digits' is registered twice.*replace=True"):
        dataset("digits", **stated)(images_of)
    mine = dataset("digits", replace=True, **stated)(images_of)
    assert DATASETS["digits"] is mine


def test_a_function_that_is_not_decorated_is_refused():
    with pytest.raises(ConfigError, match="it is a function.*with @dataset"):
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
        (tmp_path / "modules" / f"{name}.py").write_text(text)
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
    assert path.name.startswith("dsnas-single-nascore_test_dataset.mine-seed0-")
    assert RunStore(tmp_path / "runs").get(config).config == config


def test_the_source_of_a_dataset_is_told_from_another(module):
    """What is stated of it as well; what comes with the package has no digest."""
    digests = set()
    for text in (MODULE, MODULE.replace("rng(0)", "rng(1)"), MODULE.replace("s=2", "s=3"), MODULE):
        DATASETS._known.pop("mine", None)
        digests.add(DATASETS.digest(f"{module(text)}:mine"))
    assert len(digests) == 3 and None not in digests
    assert DATASETS.digest("digits") is None


def test_a_dataset_that_fails_names_its_line():
    @dataset("fails", examples=4, classes=2, channels=1)
    def fails():
        return [].pop()

    with pytest.raises(DataError, match=r"'fails' cannot be read, line \d+ of .*: IndexError: pop"):
        DATASETS["fails"].load()
