"""What commands print: tables, JSON for programs, one line for a refusal, and exit statuses.

    0  done
    1  refused, or failed
    2  used wrongly (Typer's own)
    3  the thing that was named is not there

Results go to standard output, everything else to standard error. Text from the database is printed without control
characters: a name must not move the cursor of the reader.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mithril import errors, streams
from mithril.database.lists import LAST_BY_NUMBER, Listed

REFUSED, MISSING = 1, 3
UUID_WIDTH = 36
# A column of a terminal has room for each of its words, and for so much of what is longer.
TEXT_WIDTH = 40
# What is not a terminal has no width: a line stays a line, for `grep` and `awk`.
PIPE_WIDTH = 100_000


class Missing(Exception):
    """What the command names does not exist."""

    def __init__(self, noun: str, name: object) -> None:
        """`noun`: what it should have been; `name`: as it was given."""
        super().__init__(f"there is no {noun} {printable(str(name))}")


def fail(message: str, *, status: int = REFUSED) -> NoReturn:
    """Print one line on standard error, or on standard output where that is closed, and exit with that status.

    Raises SystemExit.
    """
    typer.echo(f"mithril: {message}", err=streams.STDERR not in streams.closed)
    raise SystemExit(status)


def one_line(text: str) -> str:
    """Return the text without its line breaks: PostgreSQL adds lines with details and hints."""
    return " ".join(text.split())


def note(message: str) -> None:
    """Print a line that is not a result to standard error."""
    typer.echo(message, err=True)


@contextmanager
def named(noun: str, name: object) -> Iterator[None]:
    """Turn NotFound in the block into Missing, which names what is not found."""
    try:
        yield
    except errors.NotFound:
        raise Missing(noun, name) from None


def problems(refusal: errors.MithrilError) -> str:
    """Return a refusal in one line, or in one line for each field that is wrong."""
    lines = [
        f"{each.entry.removeprefix('$.')}: {_sentence(rule)}"
        for each in refusal.invalid
        if isinstance(each, errors.Invalid)
        for rule in each.rules
    ]
    operation = f" (operation {refusal.operation_id})" if isinstance(refusal, errors.OutcomeUnknown) else ""
    return "\n  ".join(["refused:", *lines]) if lines else f"{refusal.message or refusal.type}{operation}"


def _sentence(rule: errors.Rule) -> str:
    params = rule.params if isinstance(rule.params, dict) else {}
    reason = "".join(f"{params[name]}: " for name in ("scope", "reason") if name in params)
    suggestion = f" (suggestion: {rule.suggestion})" if rule.suggestion else ""
    return f"{reason}{rule.description}{suggestion}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; end the command when there is no terminal or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} There is no terminal to ask: add --yes.")
    if not typer.confirm(printable(question), err=True):
        fail("nothing has been changed")


def print_json(value: object) -> None:
    """Print a result for programs, indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_line(value: object) -> None:
    """Print one of many results for programs, in one line."""
    typer.echo(msgspec.json.encode(value).decode())


class One(NamedTuple):
    """One row, with a line for each field. `note`: what to add on standard error."""

    fields: Mapping[str, Any]
    note: str = ""

    def print(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print_json(self.fields)
        else:
            typer.echo("\n".join(_lines(_blocks([self.fields]))))
        if self.note:
            note(self.note)


class Many(NamedTuple):
    """Rows of a list: of each these columns, or as JSON all of it. `listed`: the page that they are.

    `status`: with which the command exits, where some of the rows are refused.
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    listed: Listed[Any] | None = None
    status: int = 0

    def print(self, *, as_json: bool) -> None:
        """Print the rows, and how many more there are."""
        rows, listed = self.rows, self.listed
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, columns=self.columns)
        else:
            note("none")
        if rows and listed and (listed.page.seen or listed.total_entries > len(rows)):
            number, size, *_ = listed.page
            first, total = listed.page.seen, f"{'at least ' if listed.is_bounded else ''}{listed.total_entries}"
            is_numbered = not listed.page.after and (number + 1) * size <= LAST_BY_NUMBER
            onward = f"--page {number + 1}" if is_numbered else f"--after {listed.next}"
            note(f"{first + 1} to {first + len(rows)} of {total}{f'; {onward} shows more' if listed.next else ''}")
        if self.status:
            raise typer.Exit(self.status)


class Done(NamedTuple):
    """What was done, where there is no row left to show: a sentence, or as JSON the result."""

    sentence: str
    result: Mapping[str, Any]

    def print(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print_json(self.result)
        else:
            typer.echo(printable(self.sentence))


Output: TypeAlias = One | Many | Done


def print_table(rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
    """Print a table with a line for each row or, in a terminal that is too narrow for it, a block for each row."""
    found = [{column: shown(_cell(row, column)) for column in columns} for row in rows]
    is_terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD if is_terminal else None, pad_edge=False)
    for column in columns:
        width = UUID_WIDTH if column == "id" or column.endswith("_id") else 0
        texts = [column, *(row[column] for row in found)]
        if is_terminal:
            width = max(map(_least_width, texts))
        table.add_column(column, overflow="fold", min_width=width, no_wrap=width >= max(map(cell_len, texts)))
    for row in found:
        table.add_row(*map(Text, row.values()))
    lines = _lines(table)
    if is_terminal and max(Text.from_ansi(line).cell_len for line in lines) > Console().width:
        lines = _lines(_blocks(found))
    typer.echo("\n".join(lines))


def _least_width(text: str) -> int:
    return max(min(cell_len(text), TEXT_WIDTH), *map(cell_len, text.split()), 0)


def _blocks(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with a line for each field, and an empty line between the rows."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        if table.rows:
            table.add_row()
        for name, value in row.items():
            table.add_row(name, Text(shown(value)))
    return table


def _cell(row: Mapping[str, Any], column: str) -> object:
    """Return the value of a column; `a.b` is what `a` has as `b`, where it has anything."""
    outer, _, inner = column.partition(".")
    value = row.get(outer)
    return value.get(inner) if inner and value is not None else value


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, msgspec.Raw | dict | list):
        value = msgspec.json.encode(value).decode()
    return printable(str(value))


def printable(text: str) -> str:
    """Return the text with every control character escaped except line ends."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show a progress bar on standard error, on a terminal only, until the block ends."""
    errors_console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors_console, transient=True, disable=not errors_console.is_terminal) as bar:
        yield bar


def _lines(table: Table) -> list[str]:
    """Return the lines of a table, as wide as the terminal where they can be, without spaces at their ends."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table, crop=False)
    return [line.rstrip() for line in captured.get().splitlines()]
