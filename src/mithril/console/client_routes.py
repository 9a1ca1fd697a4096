"""The page of a client: what it is, and its connections with medical information systems."""

from contextlib import suppress
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, refusals
from mithril.clients import service as clients
from mithril.connections import store as connections
from mithril.connections.store import Connection
from mithril.console import gate, rendering
from mithril.console.sessions import Session
from mithril.database import lists
from mithril.database.database import Database
from mithril.database.lists import Cursor, Page
from mithril.identifiers import parse_uuid
from mithril.oauth import store as oauth
from mithril.users import store as users
from mithril.web import requests
from mithril.web.forms import Parameters

CLIENT = "/console/clients/{client_id}"
ON_A_PAGE = 50


async def show(request: Request, session: Session, _: Parameters) -> Response:
    """Show the client and, with the right, its connections."""
    database, client_id = requests.resources(request).database, named(request, "client_id")
    client = await clients.get_client(database, client_id)
    found = None
    if session.may("connection:read"):
        found = await connections.list_connections(database, {}, client_id=client_id, page=page_of(request, ON_A_PAGE))
    names = await consumer_names(database, found.rows if found else [])
    emails = await users.list_emails(database, [client.user_id], client_id=client_id)
    return rendering.page(
        request, session, "client.html", client=client, found=found, names=names, owner=emails.get(client.user_id)
    )


async def consumer_names(database: Database, found: list[Connection]) -> dict[UUID, str]:
    """Return the names of the consumers of connections, by their ids."""
    names: dict[UUID, str] = {}
    for consumer_id in {connection.consumer_id for connection in found}:
        consumer = await oauth.find_client(database, consumer_id)
        names[consumer_id] = consumer.name if consumer else str(consumer_id)
    return names


def path_of(client_id: UUID) -> str:
    """Return the path of the page of a client."""
    return CLIENT.format(client_id=client_id)


def named(request: Request, name: str) -> UUID:
    """Return the UUID in the path. Raises NotFound for anything else, which names nothing."""
    return errors.found(parse_uuid(request.path_params[name]))


def page_of(request: Request, size: int, **filters: object) -> Page:
    """Return the page of a list that the cursor in the query leads to; without one of this list, the first page.

    `filters`: what the query filters by, beside the path.
    """
    name, filters = request.scope["route"].path, request.path_params | filters
    with suppress(ValueError, refusals.CursorUnknown):
        after = Cursor.decode(request.query_params.get("after", ""))
        return lists.page_of(name, filters, size=size, after=after)
    return lists.page_of(name, filters, size=size)


ROUTES: list[Route] = [gate.page(CLIENT, show, scope="client:read")]
