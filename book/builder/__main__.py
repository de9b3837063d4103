"""The book's command line, from the project's folder: python -m book.builder build, pages."""

import signal
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nascore.__main__ import Profile, Settings, main, parse_settings
from nascore.errors import ConfigError, Interrupted, unknown

ROOT = Path(__file__).parents[2]
"""The project's folder."""

app = typer.Typer(help="Builds the book.", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    profile: Profile = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="Only this notebook; repeatable.")] = None,
    set_: Annotated[
        Settings, typer.Option("--set", help="A parameter of the notebooks: lr=0.1; repeatable.")
    ] = None,
) -> None:
    """Executes the notebooks and builds the book."""
    from book.builder.build import build_book
    from nascore.evidence.profiles import PROFILES

    if profile not in PROFILES:
        raise ConfigError(unknown("profile", profile, PROFILES))
    parameters = parse_settings("--set", set_)
    for number in (signal.SIGINT, signal.SIGTERM):  # until this process ends
        signal.signal(number, _interrupt)
    start = time.perf_counter()
    page = build_book(ROOT, profile, only or (), parameters)
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    typer.echo(f"\nThe book is built, in {minutes} min {seconds} s. Its first page:\n  {page}")


def _interrupt(signum: int, frame: object) -> NoReturn:
    kept = "Searches that have ended are kept: the same command goes on from there."
    raise Interrupted(f"Interrupted. {kept}", signum)


@app.command()
def pages(
    picture: Annotated[bool, typer.Option("--picture", help="Also its figure.")] = False,
) -> None:
    """Writes what README and book take from claims, profiles and the book's records."""
    from book.builder.pages import write_pages
    from book.builder.picture import draw_picture

    drawn = [draw_picture(ROOT)] if picture else []
    for path in write_pages(ROOT) + drawn:
        typer.echo(path)


if __name__ == "__main__":
    main(app, "python -m book.builder")
