"""The command line: python -m nascore search, show, sweep, runs, judge."""

import inspect
import json
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nascore.errors import ConfigError, SweepError, one_line, printable
from nascore.folders import ensure_writable, project_root
from nascore.runs.config import SearchConfig

# What needs torch is imported by the commands themselves: --help need not wait for it.
app = typer.Typer(
    help="Differentiable architecture search, seen through its local cost.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
Settings = list[str] | None  # name=value, any number of times
Profile = Annotated[str, typer.Option(help="smoke, laptop, colab, published or paper.")]
Store = Annotated[
    Path | None, typer.Option(help="Folder of records. Default: the project's, else ./runs.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]


def _with_fields(command):
    """Gives a command one option for each field of SearchConfig, with its description as help."""
    *parameters, _ = inspect.signature(command).parameters.values()  # the last one is **fields
    for name, field in SearchConfig.model_fields.items():
        if name == "framework_options":  # these come one by one, as --option
            continue
        text = field.description.replace("[", r"\[")  # else rich takes it for a style
        if field.default not in (None, {}):
            text += f" Default: {'all eight' if name == 'operations' else field.default}."
        kind = Annotated[bool if field.annotation is bool else str, typer.Option(help=text)]
        option = inspect.Parameter(name, parameters[0].kind, default=None, annotation=kind)
        parameters.append(option)
    command.__signature__ = inspect.Signature(parameters)
    return command


@app.command("search")
@_with_fields
def _search(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a copy of the record here.")
    ] = None,
    store: Store = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, no summary.")] = False,
    option: Annotated[
        Settings, typer.Option(help="An option of the framework: temperature=0.5; repeatable.")
    ] = None,
    **fields: Any,
) -> None:
    """Searches a wiring and keeps its record; shows the record if it is there already.

    The options below --option are the fields of SearchConfig. "none" switches off what may be None.
    """
    settings = {name: _value(name, text) for name, text in fields.items() if text is not None}
    if option:
        settings["framework_options"] = parse_settings("--option", option)
    config = SearchConfig(**settings)
    from nascore.runs.loop import search
    from nascore.sweeps.parallel import advance
    from nascore.sweeps.store import RunStore

    records = RunStore(_folders(store)[0])
    records.prepare()
    if out:
        ensure_writable(out.parent, ConfigError, "Give --out the name of a file to write.")
    run = None
    while run is None:  # another process may be at it
        run = advance(config, records, partial(search, progress=not quiet))
    path = run.save(out) if out else records.path(config)
    if not quiet:
        typer.echo(f"{run}\n")
    typer.echo(path)


def parse_settings(flag: str, texts: Settings) -> dict[str, Any]:
    """Names and values of a repeatable option, such as ``--set lr=0.1``."""
    settings = {}
    for name, equals, text in (text.partition("=") for text in texts or ()):
        if not equals:
            raise ConfigError(f"{flag} {name!r}: write it like {flag} lr=0.1.")
        if name in settings:
            raise ConfigError(f"{flag} {f' {flag} '.join(texts)}: give each name once.")
        settings[name] = _value(name, text)
    return settings


def _value(name: str, text: str | bool) -> Any:
    """A setting's value from JSON or another text. Whoever gets it checks and converts it."""
    if isinstance(text, bool):
        return text
    if text == "None" or (text == "none" and name not in ("norm", "operations")):  # names there
        return None
    if name in ("operations", "output_nodes"):
        return [part.strip() for part in text.split(",")]
    for read in (json.loads, int, float):  # these know .025, +0.1 and 10_000
        with suppress(ValueError, RecursionError):  # also a number of too many digits
            return read(text)
    return {"True": True, "False": False}.get(text, text)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A record, as search wrote it.")],
    as_json: Json = False,
) -> None:
    """Prints a summary of a run and its final wiring."""
    from nascore.runs.run import Run

    loaded = Run.load(run)
    typer.echo(loaded.to_json() if as_json else loaded)


@app.command()
def sweep(
    experiment: Annotated[str, typer.Argument(help="An experiment, or all.")],
    profile: Profile = "laptop",
    workers: Annotated[
        int | None, typer.Option(help="Searches at a time, each in a process. Default: what fits.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds of each arm.")] = None,
    set_: Annotated[
        Settings, typer.Option("--set", help="A field of every search: epochs=5; repeatable.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is recorded.")] = False,
    store: Store = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Of a Dask cluster to run on: tcp://host:8786.")
    ] = None,
    resource: Annotated[
        Settings, typer.Option(help="What a Dask worker must offer: GPU=1; repeatable.")
    ] = None,
) -> None:
    """Runs what is missing of an experiment, and goes on with what was interrupted."""
    from nascore.evidence.experiments import EXPERIMENTS, searches
    from nascore.sweeps.parallel import sweep

    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    configs = searches(profile, names, seeds, parse_settings("--set", set_))
    folder = _folders(store)[-1 if profile == "published" else 0]
    sweep(
        configs,
        store=folder,
        workers=workers,
        scheduler=scheduler,
        resources=parse_settings("--resource", resource) or None,
        fresh=fresh,
    )
    typer.echo(f"{len(set(configs))} records in {folder}")


@app.command()
def runs(store: Store = None, as_json: Json = False) -> None:
    """Lists records: what was searched, whether each is whole, how large, when it was made."""
    from nascore.sweeps.store import final_wiring, table

    folders = _folders(store)
    records = table([folder for folder in folders if folder.exists()] or folders)
    if as_json:
        whole = records.path.where(records.state == "whole")
        records["wiring"] = whole.map(final_wiring, na_action="ignore")
        typer.echo(records.to_json(orient="records", indent=1))
        return
    if len(records):
        columns = ("state", "bytes", "framework", "level", "dataset", "seed", "started")
        rows = records.set_index("path").reindex(columns=columns).rename_axis(None)
        typer.echo(printable(rows.to_string(na_rep="-")))
    typer.echo(f"{len(records)} files, {records['bytes'].sum():,} bytes")


@app.command()
def judge(
    claim: Annotated[str, typer.Argument(help="Such as P1; one of your own as module:name.")],
    store: Store = None,
) -> None:
    """Prints the verdict on a claim, from the records of each profile that has all of them."""
    from nascore.evidence.verdicts import judge_records
    from nascore.sweeps.store import RunStore

    for profile, verdict in judge_records(claim, RunStore(*_folders(store))).items():
        typer.echo(f"{profile}: {verdict}".replace("**", ""))


def _folders(store: Path | None) -> list[Path]:
    """The folder that was given, or the project's: of its sweeps, and of the book's records."""
    if store is not None:
        return [store]
    root = project_root()
    folders = [root / "notebooks" / "runs", root / "book" / "records"] if root else [Path("runs")]
    return [Path(os.path.relpath(folder)) for folder in folders]


def main(app: typer.Typer = app, program: str = "python -m nascore") -> None:
    """Runs a command of an app. What the user can mend is one line, and the exit code 2.

    What a signal stopped ends in one line, too, and in 128 + the number of the signal. Any other
    error is a mistake of ours, with its traceback.
    """
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows another one
    command = typer.main.get_command(app)
    try:
        with command.make_context(program, sys.argv[1:] or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except KeyboardInterrupt as stop:  # Interrupted is one that says more
        _fail(one_line(stop) or "interrupted.", 128 + getattr(stop, "signum", signal.SIGINT))
    except SweepError as error:  # a line for each search that failed
        _fail(f"Error: {error}")
    except (ConfigError, OSError, MemoryError, RuntimeError) as error:
        _fail(f"Error: {one_line(error) or type(error).__name__}")
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail(f"Error: {one_line(error.format_message())}")  # the command line itself is wrong
    sys.exit()


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
