"""The command line: python -m nascore search, show, sweep, book."""

import inspect
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from nascore.errors import ConfigError, DataError, RecordError
from nascore.runs.config import SearchConfig

app = typer.Typer(
    help="Differentiable architecture search, seen through its local cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _search(
    out: Path | None, store: Path, quiet: bool, option: list[str] | None, **fields: Any
) -> None:
    """Searches a wiring and keeps its record; shows the record if it is there already.

    The options below --option are the fields of SearchConfig. "none" switches a limit off.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    given = {name: None if value == "none" else value for name, value in given.items()}
    for name, convert in _FROM_TEXT.items():
        if name in given:
            given[name] = convert(name, given[name])
    if option:
        given["framework_options"] = dict(_name_and_value("--option", text) for text in option)
    config = SearchConfig(**given)
    from nascore.runs.loop import search  # imports torch, which --help need not wait for
    from nascore.runs.store import RunStore

    records = RunStore(store)
    records.ensure_writable()
    if out:
        RunStore(out.parent).ensure_writable()
    run = records.get(config)
    if run is None:
        run = search(config, progress=not quiet, checkpoint=records.checkpoint(config))
        records.put(run)
    path = run.save(out) if out else records.path(config)
    if not quiet:
        typer.echo(f"{run}\n")
    typer.echo(path)


def _names(name: str, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, _names(name, text)))
    except ValueError:
        raise ConfigError(f"{name}={text!r}: write numbers with commas, such as 2,3.") from None


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{name}={text!r} is not JSON ({error}). "
            """Write it like '{"(2,3)": ["none"]}'."""
        ) from None


_FROM_TEXT = {"operations": _names, "output_nodes": _numbers, "allowed": _json}


def _with_config_options(function):
    """Gives a command one option for each field of SearchConfig, with its description as help."""

    def option(name: str, kind: type, default: Any, text: str, *flags: str):
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, typer.Option(*flags, help=text)],
        )

    parameters = [
        option("out", Path | None, None, "Write a copy of the record to this file.", "--out"),
        option("store", Path, Path("runs"), "Folder of records.", "--store"),
        option("quiet", bool, False, "No progress bar, no summary.", "--quiet"),
        option(
            "option",
            list[str] | None,
            None,
            "An option of the framework, such as temperature=0.5; repeatable.",
            "--option",
        ),
    ]
    for name, field in SearchConfig.model_fields.items():
        if name == "framework_options":
            continue
        flag = "--" + name.replace("_", "-")
        text = field.description
        if field.default not in (None, {}):
            shown = field.default
            if name == "operations":
                shown = "all eight"
            text += f" Default: {shown}."
        if field.annotation is bool:
            parameters.append(option(name, bool | None, None, text, f"{flag}/--no-{flag[2:]}"))
        else:
            parameters.append(option(name, _option_type(name, field), None, text, flag))
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def _option_type(name: str, field) -> Any:
    """int, float or str, as an option of the command line; text for a limit, which may be none."""
    kinds = _basic_types(field.annotation)
    if name not in _FROM_TEXT:
        if int in kinds:
            return int | None
        if float in kinds and type(None) not in kinds:
            return float | None
    return str | None


def _basic_types(annotation: Any) -> set[type]:
    """The types in an annotation: of Optional, Union, Literal values and Annotated."""
    if isinstance(annotation, type):
        return {annotation}
    if get_origin(annotation) is Annotated:
        return _basic_types(annotation.__origin__)
    found = set()
    for argument in getattr(annotation, "__args__", ()):
        found |= _basic_types(argument) if _is_type(argument) else {type(argument)}
    return found


def _is_type(argument: Any) -> bool:
    return isinstance(argument, type) or hasattr(argument, "__args__")


app.command("search")(_with_config_options(_search))


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A record, as search wrote it.")]) -> None:
    """Prints a summary of a run and its final wiring."""
    from nascore.runs.run import Run

    typer.echo(Run.load(run))


@app.command()
def sweep(
    experiment: Annotated[str, typer.Argument(help="An experiment, or all.")],
    profile: Annotated[str, typer.Option(help="smoke, laptop, published or paper.")] = "laptop",
    workers: Annotated[int, typer.Option(help="Searches at a time, each in a process.")] = 2,
    seeds: Annotated[int | None, typer.Option(help="Seeds of each arm.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is recorded.")] = False,
    store: Annotated[
        Path | None,
        typer.Option(help="Folder of records. Default: the book's for published, else the runs'."),
    ] = None,
) -> None:
    """Runs what is missing of an experiment, and goes on with what was interrupted."""
    from nascore.evidence.experiments import EXPERIMENTS, searches
    from nascore.folders import project_root
    from nascore.runs.parallel import sweep

    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    configs = searches(profile, names, seeds)
    if store is None:
        own = "book/records" if profile == "published" else "notebooks/runs"
        store = project_root() / own
    sweep(configs, store=store, workers=workers, fresh=fresh)
    typer.echo(f"{len(set(configs))} records in {store}")


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="smoke, laptop, published or paper.")] = "laptop",
    only: Annotated[
        list[str] | None, typer.Option(help="Execute only this notebook; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the notebooks, name=value; repeatable."),
    ] = None,
) -> None:
    """Executes the notebooks and builds the book."""
    from nascore.book.build import build_book
    from nascore.errors import unknown
    from nascore.evidence.profiles import PROFILES
    from nascore.folders import project_root

    if profile not in PROFILES:
        raise ConfigError(unknown("profile", profile, PROFILES))
    parameters = dict(_name_and_value("--set", text) for text in set_ or ())
    start = time.perf_counter()
    page = build_book(project_root(), profile, only or (), parameters)
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    typer.echo(f"\nThe book is built, in {minutes} min {seconds} s. Its first page:\n  {page}")


def _name_and_value(flag: str, text: str) -> tuple[str, Any]:
    """lr=0.1 as a name and a number; a value that is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{flag} {text!r}: write it like {flag} lr=0.1.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@app.command()
def pages() -> None:
    """Writes what README, book and table of contents take from the claims and the profiles."""
    from nascore.book.pages import write_pages
    from nascore.folders import project_root

    for path in write_pages(project_root()):
        typer.echo(path)


@app.command()
def picture() -> None:
    """Renews the README's picture, from the chapter on growing of the published book."""
    from nascore.book.build import save_figure
    from nascore.folders import project_root

    folder = project_root() / "book"
    path = folder / "figures" / "growing.png"
    save_figure(folder / "_executed" / "growing.ipynb", 0, path, "published")
    typer.echo(path)


@app.command()
def repository(
    url: Annotated[str, typer.Argument(help="Such as https://github.com/you/fork.")],
) -> None:
    """Rewrites the repository's address in the book, the notebooks and the README."""
    from nascore.book.build import set_repository
    from nascore.folders import project_root

    for path in set_repository(project_root(), url):
        typer.echo(path)


def main() -> None:
    """Runs a command; an error that the user can mend is one message, not a traceback."""
    try:
        app(prog_name="python -m nascore")
    except (ConfigError, DataError, RecordError, RuntimeError) as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
