"""`mithril settings`, `check-redirect-uri`, `version`: questions that need no database."""

from typing import Annotated

import msgspec
import typer

from mithril import __version__, settings
from mithril.cli.options import AsJson
from mithril.connections import redirect_uris


def list_settings(*, as_json: AsJson = False) -> None:
    """List every setting with its environment variable and default."""
    rows = list(settings.all_settings())
    if as_json:
        fields = [
            {"variable": r.variable, "default": r.default, "secret": r.is_secret, "about": r.description} for r in rows
        ]
        typer.echo(msgspec.json.format(msgspec.json.encode(fields)).decode())
        return
    width = max(len(row.variable) for row in rows)
    for row in rows:
        note = f" (or {row.variable}_FILE)" if row.is_secret else ""
        typer.echo(f"{row.variable:<{width}}  {_shown(row.default)}\n{'':<{width}}    {row.description}{note}")


def check_redirect_uri(
    uris: Annotated[list[str], typer.Argument(metavar="URI...", help="Addresses to judge.")],
    *,
    demo: Annotated[
        bool | None, typer.Option("--demo", envvar="MITHRIL_DEMO", help="Judge as a server with demo data does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which redirect addresses would be accepted, and why not. Exit status 1 when any is refused."""
    judged = [(uri, redirect_uris.problems(uri, redirect_uris.Policy.of(settings.load(demo=demo)))) for uri in uris]
    if as_json:
        typer.echo(msgspec.json.encode([_verdict(uri, problems) for uri, problems in judged]))
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


def _verdict(uri: str, problems: list[redirect_uris.Problem]) -> dict[str, object]:
    return {"redirect_uri": uri, **redirect_uris.verdict(problems)}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"
