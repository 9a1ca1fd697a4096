"""`mithril settings`, `check-redirect-uri`, `version`: the commands that need no database."""

from typing import Annotated

import typer

from mithril import __version__, settings
from mithril.cli import output
from mithril.cli.options import AsJson, from_settings
from mithril.connections import redirect_uris
from mithril.settings import Option, Settings


def list_settings(*, as_json: AsJson = False) -> None:
    """List every setting with its environment variable and default."""
    rows = list(settings.all_settings())
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
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"
