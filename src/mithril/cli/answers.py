"""`mithril settings`, `check-redirect-uri`, `version`: the commands that need no database."""

import re
from collections.abc import Iterator
from typing import Annotated

import typer

from mithril import __version__, settings
from mithril.cli import output
from mithril.cli.options import AsJson, from_settings
from mithril.connections import redirect_uris
from mithril.settings import Current, Option, Setting, Settings

# What `supervisor.exposures` judges together.
EXPOSING = {"host", "port", "internal_host", "internal_port", "internal_key", "internal_open", "demo", "demo_exposed"}
# A URL of a service may have a password, or a key in its query.
CREDENTIALS, QUERY = re.compile(r"(://)[^/@]*@"), re.compile(r"(?<=[^?])\?\S+")


@from_settings(Option.SERVE, Option.DEMO, Option.DATABASE, read=settings.current)
def list_settings(
    found: list[Current],
    *,
    current: Annotated[
        bool, typer.Option("--current", help="With its value here and where that comes from; secrets are not shown.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only what is wrong here, all of it; exit status 1 if anything is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every setting with its environment variable and default.

    The options of `serve` below count for --current and --check.
    """
    if current and check:
        raise typer.BadParameter("one of --current and --check")
    if current:
        _print_current(found, as_json=as_json)
    elif check:
        _print_problems([*misspelt(), *_problems(found)], as_json=as_json)
    else:
        _print_defaults([each.setting for each in found], as_json=as_json)


def misspelt() -> list[str]:
    """Return a line for each variable of the environment that looks like a setting and is none."""
    return [
        f"no setting is called {name}; the nearest is {near}" for name, near in settings.unknown_variables().items()
    ]


def warn_of_misspelt() -> None:
    """Print those lines, which are no result, to standard error."""
    for problem in misspelt():
        output.note(f"mithril: {problem}")


def _problems(found: list[Current]) -> Iterator[str]:
    """Yield what `serve` would refuse: values, and how they go together where each of them can be used."""
    from mithril.server import supervisor  # noqa: PLC0415 -- the other commands need no server

    wrong = {each.setting.name: each.problem for each in found if each.problem}
    yield from wrong.values()
    mended = [each._replace(value=each.setting.default, problem="") if each.problem else each for each in found]
    chosen = settings.loaded(mended)
    yield from supervisor.missing_packages(chosen)
    if not wrong.keys() & EXPOSING:
        yield from supervisor.exposures(chosen)


def _print_problems(problems: list[str], *, as_json: bool) -> None:
    if as_json:
        output.print_json(problems)
    else:
        typer.echo("\n".join(map(output.one_line, problems)) or "The settings can be used.")
    raise typer.Exit(bool(problems))


def _print_current(found: list[Current], *, as_json: bool) -> None:
    rows = [
        {
            "variable": each.setting.variable,
            "value": _masked(each),
            "from": f"file {each.setting.variable}_FILE" if each.source == "file" else each.source,
            "problem": each.problem or None,
        }
        for each in found
    ]
    if as_json:
        output.print_json(rows)
        return
    output.print_table([row | {"value": _shown(row["value"])} for row in rows], columns=("variable", "value", "from"))
    for each in found:
        if each.problem:
            output.note(f"mithril: {each.problem}")


def _masked(found: Current) -> object:
    """Return the value as it may be shown."""
    if found.setting.is_secret:
        return "(secret)" if found.value else ""
    return CREDENTIALS.sub(r"\1…@", QUERY.sub("?…", found.value)) if isinstance(found.value, str) else found.value


def _print_defaults(rows: list[Setting], *, as_json: bool) -> None:
    if as_json:
        fields = [
            {"variable": r.variable, "default": r.default, "secret": r.is_secret, "about": r.description} for r in rows
        ]
        output.print_json(fields)
        return
    width = max(len(row.variable) for row in rows)
    for row in rows:
        note = f" (or {row.variable}_FILE)" if row.is_secret else ""
        typer.echo(f"{row.variable:<{width}}  {_shown(row.default)}\n{'':<{width}}    {row.description}{note}")


@from_settings(Option.DEMO)
def check_redirect_uri(
    chosen: Settings,
    uris: Annotated[list[str], typer.Argument(metavar="URI...", help="Redirect URIs to judge.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say which redirect URIs would be accepted, and why not. Exit status 1 when any is refused."""
    policy = redirect_uris.Policy.of(chosen)
    judged = [(uri, redirect_uris.problems(uri, policy)) for uri in uris]
    if as_json:
        output.print_line([{"redirect_uri": uri, **redirect_uris.verdict(problems)} for uri, problems in judged])
    else:
        for uri, problems in judged:
            typer.echo(f"{'refused ' if problems else 'accepted'}  {uri}")
            for problem in problems:
                typer.echo(f"    {problem.reason}: {problem.description}")
                if problem.suggestion:
                    typer.echo(f"    suggestion: {problem.suggestion}")
    raise typer.Exit(any(problems for _, problems in judged))


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _print_version_and_exit(is_asked: bool) -> None:  # noqa: FBT001 -- Typer calls it so
    if is_asked:
        version()
        raise typer.Exit


def before_any_command(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version_and_exit, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "(empty)"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"
