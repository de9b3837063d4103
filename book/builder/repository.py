"""Writes another address of the repository, wherever this one stands: make repository URL=...

It needs no installation, only Python and git.
"""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

CONFIG = "_config.yml"
"""The file that says which address is this one."""


def write_address(root: Path, url: str) -> None:
    """Writes an address into all files under version control that have one, or into none.

    What is no character of an address is written as one, such as %22 for a quotation mark. Raises
    OSError if a file cannot be written.
    """
    here = re.search(rb"^  url: (\S+)", (root / CONFIG).read_bytes(), re.MULTILINE)[1]
    url = url.rstrip("/").removesuffix(".git").encode(errors="surrogateescape")
    url = quote(url, safe=":/@&=+,;~%").encode()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True)
    paths = [root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    with ExitStack() as stack:
        texts = {}  # before and after, of each file
        for path in sorted(
            filter(Path.is_file, paths), key=(root / CONFIG).__eq__
        ):  # it comes last
            before = path.read_bytes()
            after = before.replace(_on_colab(here), _on_colab(url)).replace(here, url)
            if before != after:
                texts[stack.enter_context(open(path, "r+b"))] = before, after
        try:
            for file, (_, after) in texts.items():
                _overwrite(file, after)
        except BaseException:
            for file, (before, _) in texts.items():
                _overwrite(file, before)
            raise


def _on_colab(address: bytes) -> bytes:
    on_github = address.removeprefix(b"https://github.com/")
    return b"https://colab.research.google.com/github/" + on_github


def _overwrite(file: BinaryIO, text: bytes) -> None:
    file.seek(0)
    file.write(text)
    file.truncate()
    file.flush()


if __name__ == "__main__":
    url = os.environ.get("URL", "")
    if not url.startswith("https://"):
        sys.exit("make repository URL=https://github.com/you/fork")
    try:
        write_address(Path(__file__).parents[2], url)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"nothing is changed: {error}")
