"""The update of a connection as an ordinary Django view, with the checks, fields and audit row of the service."""

import hashlib
import json
import re
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from registry.models import AuditEvent, Client, Connection, Token


def digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


def refuse(status: int, message: str) -> JsonResponse:
    return JsonResponse({"error": message}, status=status)


@csrf_exempt
@require_http_methods(["PATCH"])
def update_connection(request: HttpRequest, client_id: UUID, connection_id: UUID) -> JsonResponse:
    token = find_token(request.headers.get("authorization", "").removeprefix("Bearer "))
    if token is None:
        return refuse(401, "Access denied")
    broker = None
    if token.client.priv_settings.get("access_type") == "BROKER":
        broker = find_broker(token, request.headers.get("api-key", ""))
        if broker is None:
            return refuse(401, "Access denied")
    scopes = [token.scope or ""] + ([broker.priv_settings["broker_scope"]] if broker else [])
    if not all("connection:write" in scope.split() for scope in scopes):
        return refuse(403, "Invalid scopes")
    if token.client_id != client_id:
        return refuse(403, "Forbidden")
    try:
        document = json.loads(request.body)
    except ValueError:
        return refuse(400, "Malformed")
    redirect_uri = document.get("redirect_uri")
    if set(document) != {"redirect_uri"} or not re.fullmatch(r"https://.{1,2040}", str(redirect_uri)):
        return refuse(422, "Validation failed")
    connection = change(token, broker, client_id, connection_id, redirect_uri, request.META["REMOTE_ADDR"])
    return refuse(404, "Not found") if connection is None else JsonResponse({"data": view(connection)})


def find_token(value: str) -> Token | None:
    found = (
        Token.objects.select_related("user", "client__client_type", "connection").filter(digest=digest(value)).first()
    )
    if found is None or found.name != "access_token" or found.expires_at <= timezone.now():
        return None
    return None if found.user.is_blocked or found.client.is_blocked else found


def find_broker(token: Token, api_key: str) -> Client | None:
    key = Connection.objects.select_related("client").filter(secret_digest=digest(api_key)).first()
    if key is None or key.client.is_blocked or not key.client.priv_settings.get("broker_scope"):
        return None
    if token.connection is not None and token.connection.consumer_id != key.client_id:
        return None
    return key.client


def change(
    token: Token, broker: Client | None, client_id: UUID, connection_id: UUID, redirect_uri: str, address: str
) -> Connection | None:
    with transaction.atomic():
        connection = Connection.objects.select_for_update().filter(id=connection_id, client_id=client_id).first()
        if connection is None or connection.redirect_uri == redirect_uri:
            return connection
        AuditEvent.objects.create(
            action="connection.update",
            subject_id=connection.id,
            client_id=client_id,
            actor_user_id=token.user_id,
            actor_client_id=token.client_id,
            api_key_client_id=broker.id if broker else None,
            network_address=address,
            old={"redirect_uri": connection.redirect_uri},
            new={"redirect_uri": redirect_uri},
        )
        connection.redirect_uri = redirect_uri
        connection.version += 1
        connection.updated_at = timezone.now()
        connection.save(update_fields=["redirect_uri", "version", "updated_at"])
        return connection


def view(connection: Connection) -> dict[str, object]:
    fields = ("id", "client_id", "consumer_id", "redirect_uri", "inserted_at", "updated_at")
    return {name: getattr(connection, name) for name in fields}
