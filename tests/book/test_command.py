"""The book's command line."""

import errno
import os
import sys
from pathlib import Path

import pytest

from book.builder.__main__ import app
from nascore.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_command(monkeypatch, tmp_path):
    """Runs a command line in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["book", *words])
        with pytest.raises(SystemExit) as stop:
            main(app, "book")
        return stop.value.code or 0

    return call


def test_an_unknown_profile_is_one_message(run_command, capsys):
    assert run_command("build", "--profile", "labtop") == 2
    error = capsys.readouterr().err
    assert "Did you mean 'laptop'" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "text, message",
    [
        ("lr=-1", "growing.ipynb: lr=-1: input should be greater than 0."),
        (f"lr={'[' * 100_000}", "growing.ipynb: lr='[[["),
        ("lr=-.5", "growing.ipynb: lr=-0.5: input should be greater than 0."),
        ("store=None", "growing.ipynb: store=None: input should be a valid string."),
        ("=3", "growing.ipynb: unknown parameter ''"),
        ("lr", "--set 'lr': write it like --set lr=0.1"),
        ("framework=dart", "growing.ipynb: unknown framework 'dart'. Did you mean 'darts'?"),
    ],
    ids=lambda text: text[:12],
)
def test_a_bad_value_of_set_is_one_line_before_any_work(
    run_command, capsys, monkeypatch, text, message
):
    monkeypatch.setattr("book.builder.build.sweep", lambda *a, **k: pytest.fail("a search"))
    monkeypatch.setattr("book.builder.build.execute", lambda *a, **k: pytest.fail("a kernel"))
    assert run_command("build", "--only", "growing", "--set", text) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"Error: {message}") and output.err.count("\n") == 1
    assert output.out == ""


def test_a_full_disk_is_one_line(run_command, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "book/page")

    monkeypatch.setattr("book.builder.build.build_book", full)
    assert run_command("build") == 2
    error = capsys.readouterr().err
    assert error == "Error: [Errno 28] No space left on device: 'book/page'\n"


def test_build_passes_parameters_on(run_command, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("book.builder.build.build_book", lambda *a: given.append(a) or tmp_path)
    words = ["--only", "growing", "--set", "lr=1", "--set", "framework=snas"]
    assert run_command("build", "--profile", "smoke", *words) == 0
    assert given == [(ROOT, "smoke", ["growing"], {"lr": 1, "framework": "snas"})]


def test_pages_draws_the_picture_only_if_asked(run_command, monkeypatch, capsys):
    monkeypatch.setattr("book.builder.pages.write_pages", lambda root: [root / "README.md"])
    monkeypatch.setattr("book.builder.picture.draw_picture", lambda root: root / "picture.png")
    assert run_command("pages") == 0
    assert capsys.readouterr().out == f"{ROOT / 'README.md'}\n"
    assert run_command("pages", "--picture") == 0
    assert capsys.readouterr().out.endswith("picture.png\n")
