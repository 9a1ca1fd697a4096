"""`mithril connection move`, `revert`, `end-previous-secret`: redirect URIs move without a gap, one or all of a MIS."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import typer

from mithril import errors
from mithril.audit.events import Actor
from mithril.cli import clients, connections, output, session
from mithril.cli.connections import ConnectionId, find
from mithril.cli.options import ClientId, Yes, duration
from mithril.cli.output import Done, Many, One
from mithril.connections import fields, service, store, transitions, view
from mithril.connections.store import Connection
from mithril.database.database import Database
from mithril.settings import Option, Settings

app = connections.app
# Without the slash after the host, https://mis.ua would also begin https://mis.ua.example.com/.
PREFIX = re.compile(r"https?://[^/?#]+/\S*")
COLUMNS = ("id", "client_id", "redirect_uri", "to", "state")
BEGINS, BEGUN, UNDER_WAY = "would begin", "begun", "is under way"

Lasts = Annotated[
    int | None,
    typer.Option(
        "--lasts", parser=duration, metavar="TIME", help="How long both are good, such as 90m or 7d; by default a day."
    ),
]


class Step(NamedTuple):
    """One connection of a move: where it would go, and why it is refused, if it is."""

    connection: Connection
    to: str
    refusal: str = ""

    @property
    def is_under_way(self) -> bool:
        """Whether a run before this one has begun it."""
        return self.connection.transition_redirect_uri == self.to

    def row(self, state: str) -> dict[str, object]:
        """Return what is printed of it."""
        present = self.connection
        where = {"id": present.id, "client_id": present.client_id, "redirect_uri": present.redirect_uri}
        return where | {"to": self.to, "state": f"refused: {self.refusal}" if self.refusal else state}


@session.command(app, "move", Option.DEMO)
async def move(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    client_id: Annotated[UUID | None, typer.Argument(metavar="CLIENT", help="The client's id.")] = None,
    connection_id: Annotated[UUID | None, typer.Argument(metavar="CONNECTION", help="The connection's id.")] = None,
    *,
    redirect_uri: Annotated[
        str | None, typer.Option("--redirect-uri", metavar="URI", help="The redirect URI that becomes good too.")
    ] = None,
    lasts: Lasts = None,
    consumer: Annotated[
        UUID | None, typer.Option(metavar="MIS", help="Move the connections with this consumer.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="PREFIX", help="Those that begin with this.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="PREFIX", help="What takes its place.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be moved, and what is refused.")
    ] = False,
    yes: Yes = False,
) -> One | Many:
    """Let another redirect URI be good beside the present one, and alone when the time is over.

    With --consumer, --from and --to the connections of a whole MIS are moved; a second run does only what is left.
    """
    lasts_seconds = fields.TRANSITION_SECONDS if lasts is None else lasts
    if client_id is not None and connection_id is not None and redirect_uri is not None and consumer is None:
        await find(opened, client_id, connection_id)
        fields.TRANSITION.check({"redirect_uri": redirect_uri, "lasts_seconds": lasts_seconds}, chosen)
        begun = await transitions.begin(
            opened,
            connection_id,
            client_id=client_id,
            redirect_uri=redirect_uri,
            lasts_seconds=lasts_seconds,
            expected_versions=None,
            actor=actor,
        )
        return One(view.detailed_view(begun))
    if consumer is None or from_ is None or to is None or client_id is not None or redirect_uri is not None:
        raise typer.BadParameter("name CLIENT, CONNECTION and --redirect-uri, or --consumer, --from and --to")
    if not (PREFIX.fullmatch(from_) and PREFIX.fullmatch(to)) or from_ == to:
        raise typer.BadParameter("--from and --to are different, and each has at least the slash after the host")
    await clients.find(opened, consumer)
    found = await store.list_of_consumer(opened, consumer)
    steps = list(plan(found, chosen, prefix=from_, to=to, lasts_seconds=lasts_seconds))
    if dry_run or any(step.refusal for step in steps):
        rows = [step.row(UNDER_WAY if step.is_under_way else BEGINS) for step in steps]
        return Many(rows, COLUMNS, status=output.REFUSED if any(step.refusal for step in steps) else 0)
    due = [step for step in steps if not step.is_under_way]
    if due:
        output.confirm(f"Begin {len(due)} transitions, of {len(steps)} connections?", yes=yes)
    return await _begin_all(opened, steps, lasts_seconds=lasts_seconds, actor=actor)


@session.command(app, "revert", Option.DEMO)
async def revert(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    event_id: Annotated[int, typer.Argument(metavar="EVENT", help="Its number, as `mithril audit` prints it.")],
) -> One:
    """Set the redirect URI from before an event again. It ends a transition; revoked codes stay revoked."""
    await find(opened, client_id, connection_id)
    with output.named("event of that connection", event_id):
        await transitions.revert(
            opened, chosen, connection_id, event_id, client_id=client_id, expected_versions=None, actor=actor
        )
    return One(view.detailed_view(await find(opened, client_id, connection_id)))


@session.command(app, "cancel-move")
async def cancel_move(opened: Database, actor: Actor, client_id: ClientId, connection_id: ConnectionId) -> One:
    """End a transition before its time: only the old redirect URI is good, and codes for the new one are revoked."""
    await find(opened, client_id, connection_id)
    with output.named("transition of the connection", connection_id):
        await transitions.cancel(opened, connection_id, client_id=client_id, expected_versions=None, actor=actor)
    return One(view.detailed_view(await find(opened, client_id, connection_id)))


@session.command(app, "end-previous-secret")
async def end_previous_secret(opened: Database, actor: Actor, client_id: ClientId, connection_id: ConnectionId) -> Done:
    """Revoke the previous secret, which a refresh has kept for a time."""
    await find(opened, client_id, connection_id)
    with output.named("previous secret of the connection", connection_id):
        await service.end_previous_secret(
            opened,
            connection_id,
            client_id=client_id,
            expected_versions=None,
            needs_api_key=False,
            api_key_was_sent=False,
            actor=actor,
        )
    return Done("Only the present secret works.", {"id": connection_id})


def plan(found: list[Connection], chosen: Settings, *, prefix: str, to: str, lasts_seconds: int) -> Iterator[Step]:
    """Yield a step for each connection whose redirect URI begins with the prefix, and has not been moved."""
    for connection in found:
        present = connection.redirect_uri
        # Where one prefix begins with the other, what a run has moved could be moved once more.
        if not present.startswith(prefix) or (to.startswith(prefix) and present.startswith(to)):
            continue
        step = Step(connection, to + present.removeprefix(prefix))
        try:
            fields.TRANSITION.check({"redirect_uri": step.to, "lasts_seconds": lasts_seconds}, chosen)
        except errors.ValidationFailed as refused:
            step = step._replace(refusal=", ".join(_reasons(refused)))
        if connection.transition_redirect_uri not in (None, step.to):
            step = step._replace(refusal="another transition")
        yield step


async def _begin_all(opened: Database, steps: list[Step], *, lasts_seconds: int, actor: Actor) -> Many:
    rows, has_changed = [], False
    with output.progress() as bar:
        task = bar.add_task("connections", total=len(steps))
        for step in steps:
            state, present = UNDER_WAY, step.connection
            if not step.is_under_way:
                try:
                    await transitions.begin(
                        opened,
                        present.id,
                        client_id=present.client_id,
                        redirect_uri=step.to,
                        lasts_seconds=lasts_seconds,
                        expected_versions=[present.version],
                        actor=actor,
                    )
                    state = BEGUN
                except (errors.NotFound, errors.PreconditionFailed):
                    state, has_changed = "has changed meanwhile: run again", True
            rows.append(step.row(state))
            bar.advance(task)
    return Many(rows, COLUMNS, status=output.REFUSED if has_changed else 0)


def _reasons(refused: errors.ValidationFailed) -> Iterator[str]:
    for rule in (rule for invalid in refused.invalid for rule in invalid.rules):
        params: Any = rule.params
        yield params["reason"] if rule.rule == "redirect_uri" else str(rule.rule)
