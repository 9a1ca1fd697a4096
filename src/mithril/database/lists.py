"""Lists of any size: pages by number, cursors, and how much is read for one page (rules CNV-26 to CNV-28, CNV-55).

An index has each list in its order, so that a page begins where the one before it ended. What no index can find is
looked for among a bounded number of rows; then the list is refused, and says so.
"""

import hashlib
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from mithril import refusals
from mithril.database.database import Connection, Database

Row = TypeVar("Row")

# A list counts at most so many rows, and one beyond its page, so that ten million cost no more than ten thousand.
COUNT_LIMIT = 10_000
# Pages by number end here, because all rows before a page are read; from there a cursor leads on.
LAST_BY_NUMBER = 10_000
# So many rows are looked at for what no index finds: those of the last page by number, and one more.
LOOK_LIMIT = LAST_BY_NUMBER + 1
# What `_places` finds, from a table or from the rows that were looked at. One statement, which reads no other columns.
PLACES = """
SELECT coalesce(array_agg(place.moment), '{{}}') AS moments, coalesce(array_agg(place.id), '{{}}') AS ids,
       {number} AS number, {looked_at} AS looked_at
  FROM (SELECT {moment} AS moment, {prefix}id AS id FROM {source} WHERE {conditions}
         ORDER BY {order} LIMIT {rows} OFFSET {offset}) AS place
"""
LOOKED = """
WITH looked AS MATERIALIZED (
    SELECT {moment} AS inserted_at, {prefix}id AS id, {is_found} AS is_found FROM {source} WHERE {conditions} {order}
     LIMIT {most}
)"""
HAS_INDEX = "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid)"


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a list goes on: after the row that was inserted at `moment`, if the order is by time, and has this id.

    `seen`: how many rows came before. `mark`: see `Page`.
    """

    mark: bytes
    seen: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    moment: Annotated[datetime, msgspec.Meta(tz=True)] | None
    row_id: UUID | Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

    @classmethod
    def of(cls, subject: bytes, seen: int, moment: datetime | None, row_id: UUID | int) -> Self:
        """Return the cursor behind a row of a list. It is no secret: who forges one reads the same list elsewhere."""
        place = msgspec.msgpack.encode((seen, moment, row_id))
        return cls(hashlib.blake2b(subject + place, digest_size=8).digest(), seen, moment, row_id)

    @property
    def place(self) -> tuple[object, ...]:
        """Return the values of the order."""
        return (self.row_id,) if self.moment is None else (self.moment, self.row_id)

    def encoded(self) -> str:
        """Return it as the text that callers get, and give back."""
        return urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the cursor of a text that `encoded` made. Raises ValueError for any other text."""
        try:
            found = msgspec.msgpack.decode(b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True), type=cls)
        except OverflowError as error:  # a time that Python does not have
            raise ValueError from error
        if found.encoded() != text:
            raise ValueError("not written as by this server")
        return found


class Page(NamedTuple):
    """The part of a list that is asked for: a page by its number from 1, or what comes after a cursor.

    `size` is in rows. `subject`: a digest of the list and its filters, which the mark of a cursor is made from.
    """

    number: int
    size: int
    after: Cursor | None = None
    subject: bytes = b""

    @property
    def seen(self) -> int:
        """Return the number of rows before the page."""
        return self.after.seen if self.after else (self.number - 1) * self.size


def page_of(
    name: str, filters: Mapping[str, object], *, number: int = 1, size: int, after: Cursor | None = None
) -> Page:
    """Return a page of the list of that name with these filters; with a cursor, whatever number it is.

    Raises PageTooFar, and CursorUnknown for a cursor of another list, or with other filters.
    """
    subject = hashlib.blake2b(msgspec.msgpack.encode([name, sorted(filters.items())])).digest()
    if after is None:
        if number * size > LAST_BY_NUMBER:
            raise refusals.PageTooFar
        return Page(number, size, None, subject)
    if after != Cursor.of(subject, after.seen, after.moment, after.row_id):
        raise refusals.CursorUnknown
    return Page(after.seen // size + 1, size, after, subject)


class Search(NamedTuple):
    """A filter that no index serves as it is, for which rows are looked at one after the other.

    `value`: what takes the place of `{}`, from what was given. `index_name`: of one that finds what is rare, if the
    database has it, with the condition `by_index`; it helps where `is_served` says so of what was given. Where much is
    found the index may take long, which PostgreSQL knows beforehand if it `is_estimated`.
    """

    fragment: str
    value: Callable[[Any], Any] = lambda given: given
    index_name: str = ""
    by_index: str = "true"
    is_served: Callable[[Any], Any] = bool
    is_estimated: bool = True


def containing(column: str, **index: Any) -> Search:  # noqa: ANN401 -- as `Search` has them
    """Return the search for a text in that column, literally and in any letter case (rule CNV-29)."""
    return Search(f"{column} ILIKE {{}}", _pattern, **index)


def has_trigrams(text: str) -> bool:
    """Return whether an index of trigrams leads to the text: it needs three letters or digits in a row."""
    return re.search(r"[^\W_]{3}", text) is not None


def _pattern(text: str) -> str:
    return "%" + re.sub(r"([%_\\])", r"\\\1", text) + "%"


Filters: TypeAlias = Mapping[str, str | Search]


class Listing(NamedTuple, Generic[Row]):
    """A list: its rows as instances of `kind`, oldest first, or newest first by their number.

    `table`: with its alias, if it has one. `joins`: tables with more columns, which have a row for each. `filters`:
    conditions that an index serves, with `{}` in place of the value, and searches. `not x` is for a filter `x` that is
    false: where nearly all rows are so, the planner must see which of the two is asked for.
    """

    kind: type[Row]
    table: str
    columns: str
    filters: Filters
    joins: str = ""
    is_newest_first: bool = False

    @property
    def prefix(self) -> str:
        """Return what stands before the columns of the table in SQL."""
        return f"{self.table.split()[-1]}."

    def order(self, prefix: str) -> str:
        """Return the order of the rows, in SQL; `prefix`: that of the columns."""
        return f"{prefix}id DESC" if self.is_newest_first else f"{prefix}inserted_at, {prefix}id"

    def after(self, prefix: str, position: int) -> str:
        """Return the condition that a row comes after the place in `$position` and the next parameter, in SQL."""
        if self.is_newest_first:
            return f"{prefix}id < ${position}"
        return f"({prefix}inserted_at, {prefix}id) > (${position}, ${position + 1})"


class Listed(NamedTuple, Generic[Row]):
    """One page of a list, and the total number of rows. `is_bounded`: there may be more than `total_entries`.

    `next`: the cursor for what comes after, or None at the end.
    """

    rows: list[Row]
    page: Page
    total_entries: int
    is_bounded: bool
    next: str | None


class _Found(msgspec.Struct, frozen=True):
    """The places of a page's rows, and of one more where there is another page, in two lists of the same length.

    `number`: how many rows were counted. `looked_at`: among how many, where an index does not find them.
    """

    moments: list[Any]
    ids: list[Any]
    number: int
    looked_at: int

    @property
    def is_cut_off(self) -> bool:
        """Whether there may be rows that were not looked at."""
        return self.looked_at >= LOOK_LIMIT

    def is_page(self, page: Page) -> bool:
        """Return whether these are the rows of the page: no others are, or it is full."""
        return not self.is_cut_off or len(self.ids) > page.size


async def fetch(database: Database, listing: Listing[Row], filters: Mapping[str, Any], *, page: Page) -> Listed[Row]:
    """Return one page of the rows that meet all filters. Raises ServiceUnavailable, CursorUnknown, SearchTooWide."""
    if page.after and isinstance(page.after.row_id, int) != listing.is_newest_first:
        raise refusals.CursorUnknown
    filters = {f"not {k}" if v is False and f"not {k}" in listing.filters else k: v for k, v in filters.items()}
    rows: list[Any] = []
    async with database.connection() as connection:
        found = await _find(connection, listing, filters, page)
        if found.is_page(page) and found.ids:
            at = f"SELECT {listing.columns} FROM {listing.table} {listing.joins} WHERE {listing.prefix}id = ANY ($1)"
            rows = await connection.fetch(f"{at} ORDER BY {listing.order(listing.prefix)}", found.ids[: page.size])
    if not found.is_page(page):
        raise refusals.SearchTooWide
    shown = min(len(found.ids), page.size)
    has_more, seen = shown < len(found.ids), page.seen + shown
    total = max(found.number, seen + has_more) if shown or page.after else found.number
    last = shown - 1
    following = Cursor.of(page.subject, seen, found.moments[last], found.ids[last]).encoded() if has_more else None
    is_bounded = has_more and (found.looked_at == LOOK_LIMIT or found.number >= COUNT_LIMIT or total > found.number)
    return Listed([listing.kind(**row) for row in rows], page, total, is_bounded, following)


async def _find(connection: Connection, listing: Listing[Any], filters: Mapping[str, Any], page: Page) -> _Found:
    """Find the places of a page, in the order of the list or, where so few match, by the index of a search."""
    kinds = [listing.filters[name] for name in filters]
    given = [k.value(v) if isinstance(k, Search) else v for k, v in zip(kinds, filters.values(), strict=True)]
    values = [*given, *(page.after.place if page.after else ())]

    async def ask(by: Search | None = None) -> _Found:
        row = await connection.fetchrow(_places(listing, list(filters), page, by=by), *values)
        assert row is not None, "an aggregate has a row"
        return _Found(**row)

    searches = {name: each for name in filters if isinstance(each := listing.filters[name], Search)}
    rare = [search for name, search in searches.items() if search.index_name and search.is_served(filters[name])]
    by = rare[0] if rare and await connection.fetchval(HAS_INDEX, rare[0].index_name) else None
    is_first = by is not None and await _is_rare(connection, listing, by, given[kinds.index(by)])
    if is_first and not (found := await ask(by)).is_cut_off:
        return found
    found = await ask()
    if found.is_page(page):
        number = found.number + (page.seen if searches and page.after else 0)
        return msgspec.structs.replace(found, number=number)
    if by and not is_first and not (other := await ask(by)).is_cut_off:
        return other
    return found


async def _is_rare(connection: Connection, listing: Listing[Any], search: Search, value: object) -> bool:
    """Return whether the index of the search is expected to find little, so that it is faster than the order."""
    if not search.is_estimated:
        return True
    plan = f"EXPLAIN (FORMAT JSON) SELECT FROM {listing.table} WHERE {search.fragment.format('$1')}"
    expected: float = msgspec.json.decode(await connection.fetchval(plan, value))[0]["Plan"]["Plan Rows"]
    return expected < LOOK_LIMIT


def _places(listing: Listing[Any], names: Sequence[str], page: Page, *, by: Search | None = None) -> str:
    """Return the statement that finds the places of a page; `by`: the search whose index finds them."""
    prefix, searched, served = listing.prefix, [], []
    for position, name in enumerate(names, start=1):
        each = listing.filters[name]
        if isinstance(each, Search):
            searched.append(each.fragment.format(f"${position}"))
            served += [each.by_index.format(f"${position}")] if each is by else []
        else:
            served.append(each.format(f"${position}"))
    window: dict[str, Any] = {"rows": page.size + 1, "offset": 0 if page.after else page.seen}
    after = [listing.after(prefix, len(names) + 1)] if page.after else []
    moment = "NULL::timestamptz" if listing.is_newest_first else f"{prefix}inserted_at"
    own = {"moment": moment, "prefix": prefix, "source": listing.table}
    if not searched:
        matching = f"SELECT FROM {listing.table} WHERE {_all(served)} LIMIT {COUNT_LIMIT}"
        # Where a cursor has passed as many, their number says enough.
        is_counted = not page.after or page.seen + page.size < COUNT_LIMIT
        counts = {"number": f"(SELECT count(*) FROM ({matching}) AS counted)" if is_counted else "0", "looked_at": "0"}
        return PLACES.format(**own, **window, **counts, conditions=_all(served + after), order=listing.order(prefix))
    order = "" if by else f"ORDER BY {listing.order(prefix)}"
    conditions = _all(served + searched) if by else _all(served + after)
    looked = LOOKED.format(
        **own, conditions=conditions, order=order, is_found="true" if by else _all(searched), most=LOOK_LIMIT
    )
    found = ["is_found", *([listing.after("", len(names) + 1)] if by and page.after else [])]
    own = {"moment": "inserted_at", "prefix": "", "source": "looked"}
    counts = {
        "number": "(SELECT count(*) FILTER (WHERE is_found) FROM looked)",
        "looked_at": "(SELECT count(*) FROM looked)",
    }
    return looked + PLACES.format(**own, **window, **counts, conditions=_all(found), order=listing.order(""))


def _all(conditions: Sequence[str]) -> str:
    return " AND ".join(conditions) or "true"
