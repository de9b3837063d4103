"""RunStore: a folder of records, each under the hash of its config."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from nascore.errors import RecordError
from nascore.folders import ensure_writable
from nascore.runs.config import SearchConfig
from nascore.runs.run import Run


class RunStore:
    """A folder of records, each under the hash of its config. What was read once is kept in memory.

    Arguments:
        folder: made when the first record is put in.
        shipped: another folder that is looked in, too, and never written to.

    >>> config = SearchConfig(dataset="synthetic")
    >>> RunStore("runs").get(config) is None
    True
    >>> RunStore("runs").path(config).name
    'dsnas-single-synthetic-seed0-6190f91fa692.nc'
    """

    def __init__(self, folder: str | Path, shipped: str | Path | None = None):
        self.folder = Path(folder)
        self.shipped = None if shipped is None else Path(shipped)
        self._read: dict[tuple[Path, int], Run] = {}  # by path and time of the last change

    def path(self, config: SearchConfig) -> Path:
        """Where the record of a config is kept: its name is for people, its hash is the address."""
        return self.folder / _file_name(config, config.hash)

    def ensure_writable(self) -> None:
        """Raises RecordError if records cannot be put here: to be called before the work."""
        ensure_writable(self.folder, RecordError, "Choose another folder for the records.")

    def checkpoint(self, config: SearchConfig) -> Path:
        """Where a search of this config keeps its state until its record is in the store."""
        return self.path(config).with_suffix(".checkpoint")

    def find(self, config: SearchConfig) -> Path | None:
        """The file that holds the run of a config, here or among the shipped ones; not read."""
        names = [_file_name(config, name) for name in (config.hash, config.old_hash)]
        folders = filter(None, (self.folder, self.shipped))
        paths = (folder / name for folder in folders for name in names)
        return next((path for path in paths if path.exists()), None)

    def has(self, configs: Iterable[SearchConfig]) -> bool:
        """Whether there is a file for each of these."""
        return all(map(self.find, configs))

    def get(self, config: SearchConfig) -> Run | None:
        """The run of a config, or None. Raises RecordError if its file is damaged."""
        path = self.find(config)
        if path is None:
            return None
        key = path, path.stat().st_mtime_ns
        run = self._read[key] = self._read.get(key) or Run.load(path)
        if run.config.hash != config.hash:
            raise RecordError(f"{path} holds a run of another config. Delete it and run again.")
        return run

    def put(self, run: Run) -> Path:
        """Keeps a run, and removes the checkpoint that it came from."""
        path = run.save(self.path(run.config))
        self.checkpoint(run.config).unlink(missing_ok=True)
        return path

    def __iter__(self) -> Iterator[Run]:
        """Every run of the folder, read anew; the shipped ones are left out."""
        return (Run.load(path) for path in sorted(self.folder.glob("*.nc")))


def _file_name(config: SearchConfig, name: str) -> str:
    words = f"{config.framework}-{config.level}-{config.dataset}-seed{config.seed}"
    return f"{words.replace(':', '.')}-{name}.nc"
