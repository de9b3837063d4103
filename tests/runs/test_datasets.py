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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from nascore import RunStore, SearchConfig, search, sweep
from nascore.errors import ConfigError, DataError
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


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("where", ["data/FashionMNIST/raw", "debian"])
@pytest.mark.usefixtures("small")
def test_fashion_mnist_on_disk_and_one_changed_pixel(folder, where, suffix):
    """The shape is as it should be, and nothing but the MD5 sum tells."""
    images, labels = write_fashion_mnist(folder / where, suffix)
    read_images, read_labels = DATASETS["fashion-mnist"].read()
    assert (read_images[:, 0] == images).all() and (read_labels == labels).all()
    with pytest.raises(DataError, match=r"images of shape \(20, 1, 28, 28\) instead of"):
        DATASETS["fashion-mnist"].load()
    images[3, 14, 14] ^= 1
    path = folder / where / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(gzip.compress(idx(images)) if suffix else idx(images))
    with pytest.raises(DataError, match=f"{path} is damaged: .* MD5 sum .*Delete it"):
        DATASETS["fashion-mnist"].read()


@pytest.mark.usefixtures("small")
def test_the_data_folder_comes_first(folder):
    write_fashion_mnist(folder / "data" / "FashionMNIST" / "raw")
    (folder / "debian").mkdir()
    for name in datasets.FASHION_MNIST:
        (folder / "debian" / name).touch()
    assert len(DATASETS["fashion-mnist"].read()[0]) == 20


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"not gzip at all", lambda raw: b""]
)
def test_a_damaged_file_is_named_and_not_half_read(folder, damage):
    write_fashion_mnist(folder / "debian")
    path = folder / "debian" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged.*Delete it"):
        DATASETS["fashion-mnist"].read()


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package of Fashion-MNIST is not here")
def test_debians_files_have_the_sums_of_the_originals(monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", DEBIAN)
    images, labels = DATASETS["fashion-mnist"].load()
    assert images.shape == (60_000, 1, 28, 28) and labels.bincount().tolist() == [6000] * 10


@pytest.fixture
def mirror(folder, small, monkeypatch):
    """A host of Fashion-MNIST: its address, its folder, and what was asked for.

    Its first answer is wrong.
    """
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if len(asked) == 1:
                return self.send_error(503)
            return super().do_GET()

        def log_message(self, *args):
            pass

    write_fashion_mnist(folder / "mirror")
    sums = [
        (path.name, hashlib.md5(path.read_bytes()).hexdigest())
        for path in (folder / "mirror").iterdir()
    ]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    handler = partial(Handler, directory=folder / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setenv("NASCORE_MIRROR", address)
        yield SimpleNamespace(folder=folder / "mirror", asked=asked)
        server.shutdown()


def test_a_download_is_tried_again_and_not_made_twice(mirror, monkeypatch):
    """By two at once, who then have the same files."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: DATASETS[name].read(), ["fashion-mnist"] * 2)
    assert (first[0] == second[0]).all() and len(first[0]) == 20
    assert len(mirror.asked) == len(datasets.FASHION_MNIST) + 1


def test_a_download_with_a_wrong_sum_leaves_nothing(mirror, folder, monkeypatch):
    monkeypatch.setattr(datasets, "RETRIES", 0)
    monkeypatch.setenv("NASCORE_MIRROR", str(mirror.folder))  # a local folder will do
    path = mirror.folder / "train-labels-idx1-ubyte.gz"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(DataError, match=rf"cannot download .*{path.name}.*does not match.*MIRROR"):
        DATASETS["fashion-mnist"].read()
    kept = {path.name for path in (folder / "data").rglob("*") if path.is_file()}
    assert kept == {".lock", "train-images-idx3-ubyte.gz"}
    path.write_bytes(raw)
    assert len(DATASETS["fashion-mnist"].read()[1]) == 20 and not mirror.asked


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


def test_a_home_that_is_nobodys_is_named(monkeypatch):
    monkeypatch.setenv("NASCORE_DATA", "~no_such_user/x")
    with pytest.raises(DataError, match="NASCORE_DATA='~no_such_user/x'.*Write the whole path"):
        DATASETS["cifar10"].read()


@pytest.fixture
def silent():
    """The address of a host that accepts a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_mirror_that_never_answers_times_out(folder, monkeypatch, silent, name):
    monkeypatch.setattr(datasets, "TIMEOUT", 0.2)
    monkeypatch.setattr(datasets, "RETRIES", 0)
    monkeypatch.setenv("NASCORE_MIRROR", silent)
    with pytest.raises(DataError, match="timed out.*set NASCORE_MIRROR"):
        DATASETS[name].read()
    (lock,) = (folder / "data").rglob(".lock")
    with FileLock(lock, timeout=0):
        pass  # it is free again


@pytest.mark.parametrize(
    "mirror",
    ["http://[", "nowhere://x", "http://127.0.0.1:1", "http://127.0.0.1:99999", "/", "~nobody"],
)
def test_a_mirror_that_is_none_is_one_message(monkeypatch, mirror):
    monkeypatch.setattr(datasets, "RETRIES", 0)
    monkeypatch.setenv("NASCORE_MIRROR", mirror)
    with pytest.raises(DataError, match="set NASCORE_MIRROR to an address or folder") as error:
        DATASETS["cifar10"].read()
    assert "\n" not in str(error.value)


def test_who_waits_for_another_process_waits_not_for_ever(folder, monkeypatch):
    monkeypatch.setattr(datasets, "LOCK_TIMEOUT", 0.2)
    (folder / "data").mkdir()
    with FileLock(folder / "data" / ".lock"), pytest.raises(DataError, match=r"/\.lock' could not"):
        DATASETS["cifar10"].read()


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


def test_a_damaged_cifar_folder_is_unpacked_again(folder, monkeypatch):
    """And where that does not help, it says what to do."""
    write_cifar(folder / "mirror", CIFAR10, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision and pickle disagree about an align flag
        images, _ = DATASETS["cifar10"].read()
        (folder / "data" / CIFAR10.base_folder / "data_batch_1").write_bytes(b"x")
        assert (DATASETS["cifar10"].read()[0] == images).all()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", "0" * 32]])
    with pytest.raises(DataError, match=r"cannot download cifar-10-python.*NASCORE_MIRROR"):
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
        ((images_of((6, 8, 8)), labels_of()), r"images of shape \(6, 8, 8\) instead of \(6, 1, h"),
        ((images_of((5, 1, 8, 8)), labels_of()), r"images of shape \(5, 1, 8, 8\) instead of"),
        ((images_of((6, 1, 0, 8)), labels_of()), r"images of shape \(6, 1, 0, 8\) instead of"),
        ((images_of(dtype=np.int64), labels_of()), "images of type int64 instead of uint8 or"),
        ((images_of() + np.nan, labels_of()), "pixels that are infinite or NaN instead"),
        ((images_of(dtype="f8") + 1e300, labels_of()), "pixels that are infinite or NaN instead"),
        ((images_of(), labels_of(0, 1)), r"labels of shape \(2,\) instead of \(6,\)"),
        ((images_of(), labels_of(dtype=float)), "labels of type float64 instead of integers"),
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


@pytest.mark.parametrize("dtype", ["u1", "f2", ">f4"])
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
    with pytest.raises(ConfigError, match=f"{name}={value}.*(positive integers|violates)"):
        dataset("mine", **stated)(lambda: None)


def test_a_name_of_the_package_cannot_be_taken():
    with pytest.raises(ConfigError, match="'digits' is registered twice.*Choose another name"):
        dataset("digits", examples=6, classes=3, channels=1)(images_of)


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
        digests.add(DATASETS.digest(f"{module(text)}:mine"))
    assert len(digests) == 3 and None not in digests
    assert DATASETS.digest("digits") is None


def test_a_dataset_that_fails_names_its_line():
    @dataset("fails", examples=4, classes=2, channels=1)
    def fails():
        return [].pop()

    with pytest.raises(DataError, match=r"'fails' cannot be read, line \d+ of .*: IndexError: pop"):
        DATASETS["fails"].load()
