"""Import, export and demo data on a real database: all or nothing, repeatable, and without secrets in output."""

import asyncio
import copy
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from mithril import errors, security
from mithril.audit.events import Actor
from mithril.connections.redirect_uris import Policy
from mithril.database.database import Connection
from mithril.identifiers import time_ordered_uuid
from mithril.snapshots import demo
from mithril.snapshots import service as snapshots
from mithril.snapshots.differences import Change
from mithril.snapshots.sections import SECTIONS, Section
from mithril.snapshots.service import Counts, Report, SnapshotError
from support import repository
from support.proxies import Loss, losing
from support.servers import fresh_database

pytestmark = pytest.mark.anyio

Data = dict[str, list[dict[str, Any]]]

CLINIC, MIS = "1380df72-275a-11e7-93ae-92361f002671", "25c03af6-69bd-439e-b0dd-f1669b3dbbfd"
OWNER, OTHER = "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02"
CONNECTION = "e5372365-d47a-467f-81d0-f35117864352"
NOBODY = "00000000-0000-4000-8000-000000000000"
TABLES = (
    *("client_types", "roles", "users", "password_hstr", "clients", "connections", "user_roles"),
    *("global_user_roles", "apps", "authentication_factors", "tokens", "audit_events"),
)
KINDS = ("client_types", "roles")
STAFF = """
OWNER ADMIN HR RECEPTIONIST DOCTOR SPECIALIST ASSISTANT LABORANT MED_ADMIN MED_COORDINATOR REORGANIZATION_OWNER
PHARMACY_OWNER PHARMACIST CABINET
"""
SYSTEM = "4261eacf-8008-4e62-899f-de1e2f7065f0"  # every database of the original has this user
SECRET, TOKEN, PASSWORD = "first-secret-0123456789", "first-token-0123456789", "First-Password-1"


def data() -> Data:
    """Return one entry of each kind, with all its fields."""
    return {
        "client_types": [{"name": "MSP", "scope": "a b"}, {"name": "MIS", "scope": "a b"}],
        "roles": [{"name": "OWNER", "scope": "a"}, {"name": "MSP", "scope": "b"}],
        "users": [
            {"id": OWNER, "email": "Owner@Clinic.example", "password": PASSWORD, "tax_id": "3067305998"},
            {"id": OTHER, "email": "other@clinic.example", "is_blocked": True, "block_reason": "gone"},
        ],
        "clients": [
            {"id": CLINIC, "name": "Клініка", "client_type": "MSP", "user_id": OWNER, "settings": {"n": 1.10}},
            {
                "id": MIS,
                "name": "Програма",
                "client_type": "MIS",
                "user_id": OWNER,
                "priv_settings": {"access_type": "DIRECT", "broker_scope": "a b", "more": [1]},
            },
        ],
        "connections": [
            {
                "id": CONNECTION,
                "client_id": CLINIC,
                "consumer_id": MIS,
                "redirect_uri": "https://mis.example.com/callback",
                "secret": SECRET,
            }
        ],
        "user_roles": [{"user_id": OWNER, "client_id": CLINIC, "role": "OWNER"}],
        "global_user_roles": [{"user_id": OWNER, "role": "MSP"}],
        "approvals": [{"user_id": OWNER, "client_id": CLINIC, "scope": "a"}],
        "authentication_factors": [{"user_id": OWNER, "type": "SMS", "factor": "+380501112233"}],
        "tokens": [
            {
                "value": TOKEN,
                "name": "access_token",
                "user_id": OWNER,
                "expires_in": 3600,
                "connection_id": CONNECTION,
                "details": {"client_id": CLINIC, "scope": "a", "grant_type": "password"},
            }
        ],
    }


@pytest.fixture(scope="module")
def untouched_url(postgres: str) -> Iterator[str]:
    """One database for all tests that change nothing."""
    with fresh_database(postgres) as url:
        yield url


async def bring(db: Connection, content: Any, **options: Any) -> Report:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await imported(db, snapshots.read(body), **options)


async def imported(db: Connection, snapshot: Any, *, policy: Policy = Policy(), **options: Any) -> Report:  # noqa: B008
    actor = Actor(request_id="a test")
    return await snapshots.import_snapshot(db, snapshot, actor=actor, policy=policy, **options)


async def started(db: Connection) -> Report:
    """Do what each start with --demo does."""
    return await demo.start(db, actor=Actor(request_id="a test"), policy=Policy())


def without_chance(exported: bytes) -> dict[str, list[dict[str, Any]]]:
    """Return an export without the ids that were drawn, in an order that does not depend on them."""
    rows = {
        kind: [{k: v for k, v in row.items() if k != "id"} for row in found]
        for kind, found in json.loads(exported).items()
    }
    return {kind: sorted(found, key=str) for kind, found in rows.items()}


async def refusal(db: Connection, content: Any) -> str:
    """Return the message with which `content` is refused, and check that nothing has changed."""
    before = await everything(db)
    with pytest.raises(SnapshotError) as caught:
        await bring(db, content)
    assert await everything(db) == before
    return str(caught.value)


async def everything(db: Connection) -> dict[str, list[str]]:
    """Return each row of each table as text."""
    return {
        table: [row[0] for row in await db.fetch(f"SELECT t::text FROM {table} t ORDER BY t.id")] for table in TABLES
    }


async def audited(db: Connection) -> list[tuple[str, Any, Any]]:
    rows = await db.fetch("SELECT action, old, new FROM audit_events ORDER BY id")
    return [(r["action"], r["old"] and json.loads(r["old"]), r["new"] and json.loads(r["new"])) for r in rows]


# Import


async def test_every_kind_of_entry_is_imported_into_its_columns(db: Connection) -> None:
    report = await bring(db, data())
    assert report.kinds == {key: Counts(added=len(rows)) for key, rows in data().items()}
    assert report.without_secret == []
    row = await db.fetchrow("SELECT * FROM connections")
    assert row is not None
    assert (str(row["id"]), str(row["client_id"]), str(row["consumer_id"])) == (CONNECTION, CLINIC, MIS)
    assert row["redirect_uri"] == "https://mis.example.com/callback"
    assert (row["secret_digest"], row["secret_tail"]) == (security.digest(SECRET), "6789")
    assert (row["version"], row["previous_secret_digest"]) == (1, None)
    token = await db.fetchrow("SELECT * FROM tokens")
    assert token is not None
    assert (token["digest"], token["name"], token["scope"]) == (security.digest(TOKEN), "access_token", "a")
    assert (str(token["client_id"]), str(token["connection_id"])) == (CLINIC, CONNECTION)
    assert json.loads(token["details"]) == {"grant_type": "password"}
    user = await db.fetchrow("SELECT * FROM users WHERE id = $1", OWNER)
    assert user is not None
    assert user["email"] == "owner@clinic.example"
    assert security.is_password(PASSWORD, user["password_hash"])
    assert await db.fetchval("SELECT array_agg(password_hash) FROM password_hstr") == [user["password_hash"]]
    clinic = await db.fetchrow("SELECT settings, priv_settings FROM clients WHERE id = $1", CLINIC)
    assert clinic is not None
    assert (clinic["settings"], clinic["priv_settings"]) == ('{"n": 1.1}', '{"access_type": "BROKER"}')


async def test_a_second_import_changes_nothing(db: Connection) -> None:
    await bring(db, data())
    before = await everything(db)
    report = await bring(db, data())
    assert report.kinds == {key: Counts(unchanged=len(rows)) for key, rows in data().items()}
    assert await everything(db) == before


async def test_a_changed_row_is_updated_to_the_values_of_the_file(db: Connection) -> None:
    await bring(db, data())
    changed = data()
    changed["connections"][0]["redirect_uri"] = "https://mis.example.com/new"
    changed["clients"][0]["name"] = "Клініка 2"
    report = await bring(db, changed)
    assert report.kinds["connections"] == Counts(changed=1)
    assert report.kinds["clients"] == Counts(changed=1, unchanged=1)
    row = await db.fetchrow("SELECT redirect_uri, version, updated_at > inserted_at AS later FROM connections")
    assert row is not None
    assert tuple(row) == ("https://mis.example.com/new", 2, True)
    assert (await audited(db))[-2:] == [
        ("client.update", {"name": "Клініка"}, {"name": "Клініка 2"}),
        (
            "connection.update",
            {"redirect_uri": "https://mis.example.com/callback"},
            {"redirect_uri": "https://mis.example.com/new"},
        ),
    ]


async def test_fields_that_the_file_omits_are_not_changed(db: Connection) -> None:
    await bring(db, data())
    before = await everything(db)
    less = data()
    for key, optional in {
        "users": ("password", "tax_id", "is_blocked", "block_reason"),
        "clients": ("settings", "priv_settings"),
        "connections": ("secret", "id"),
        "authentication_factors": ("factor",),
    }.items():
        less[key] = [{name: v for name, v in row.items() if name not in optional} for row in less[key]]
    del less["tokens"][0]["connection_id"]
    await bring(db, less)
    await bring(db, {"users": less["users"]})
    assert await everything(db) == before


async def test_null_empties_a_nullable_field(db: Connection) -> None:
    await bring(db, data())
    await bring(db, {"users": [{**data()["users"][1], "block_reason": None}]})
    assert await db.fetchval("SELECT count(*) FROM users WHERE block_reason IS NOT NULL") == 0


async def test_users_are_identified_by_email_in_any_letter_case(db: Connection) -> None:
    await bring(db, data())
    report = await bring(db, {"users": [{"email": "OWNER@clinic.EXAMPLE", "tax_id": "1"}]})
    assert report.kinds["users"] == Counts(changed=1)
    assert await db.fetchval("SELECT tax_id FROM users WHERE id = $1", OWNER) == "1"


async def test_references_may_be_names_or_ids(db: Connection) -> None:
    of_file, of_database = data(), {}
    of_file["client_types"][0]["id"] = type_id = str(uuid4())
    of_file["roles"][0]["id"] = role_id = str(uuid4())
    of_file["clients"][0]["client_type"] = type_id.upper()
    of_file["user_roles"][0]["role"] = role_id
    await bring(db, of_file)
    before = await everything(db)
    of_database = {key: data()[key] for key in ("clients", "user_roles", "global_user_roles")}
    await bring(db, of_database)
    assert await everything(db) == before
    assert str(await db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", CLINIC)) == type_id
    assert str(await db.fetchval("SELECT role_id FROM user_roles")) == role_id


async def test_a_client_type_and_a_role_may_have_the_same_name(db: Connection) -> None:
    await bring(db, data())
    found = await db.fetchval(
        "SELECT r.name FROM global_user_roles g JOIN roles r ON r.id = g.role_id WHERE r.scope = 'b'"
    )
    assert found == "MSP"


async def test_identifiers_may_be_in_any_letter_case(db: Connection) -> None:
    await bring(db, data())
    before = await everything(db)
    shouted = data()
    shouted["connections"][0] |= {"id": CONNECTION.upper(), "client_id": CLINIC.upper()}
    await bring(db, shouted)
    assert await everything(db) == before


async def test_a_changed_secret_revokes_the_previous_one(db: Connection) -> None:
    await bring(db, data())
    await db.execute(
        "UPDATE connections SET previous_secret_digest = $1, previous_secret_expires_at = now()",
        security.digest("older"),
    )
    await bring(db, data())
    assert await db.fetchval("SELECT previous_secret_digest FROM connections") == security.digest("older")
    rotated = data()
    rotated["connections"][0]["secret"] = "another-secret-6789"
    await bring(db, rotated)
    row = await db.fetchrow("SELECT * FROM connections")
    assert row is not None
    assert row["secret_digest"] == security.digest("another-secret-6789")
    assert (row["previous_secret_digest"], row["previous_secret_expires_at"], row["version"]) == (None, None, 2)
    # The tails are the same, and still the audit trail shows the change.
    assert (await audited(db))[-1] == ("connection.update", {"secret_tail": "6789"}, {"secret_tail": "6789"})


async def test_no_tail_of_a_short_secret_is_stored(db: Connection) -> None:
    short = data()
    short["connections"][0]["secret"] = "abcdefgh"
    await bring(db, short)
    assert await db.fetchval("SELECT secret_tail FROM connections") == ""


async def test_a_new_connection_without_a_secret_gets_one_and_is_reported(db: Connection) -> None:
    without = data()
    del without["connections"][0]["secret"]
    del without["tokens"]
    report = await bring(db, without)
    assert report.without_secret == [CONNECTION]
    assert str(report).splitlines()[-1] == CONNECTION
    digest = await db.fetchval("SELECT secret_digest FROM connections")
    assert (await bring(db, without)).without_secret == []
    assert await db.fetchval("SELECT secret_digest FROM connections") == digest


async def test_a_changed_password_is_set_and_remembered(db: Connection) -> None:
    for number in range(5):
        await bring(db, {"users": [{"email": "a@b.example", "password": f"Password-{number}"}]})
    user = await db.fetchrow("SELECT password_hash, password_set_at > inserted_at AS later FROM users")
    assert user is not None
    assert security.is_password("Password-4", user["password_hash"])
    assert user["later"]
    history = [r[0] for r in await db.fetch("SELECT password_hash FROM password_hstr ORDER BY id")]
    assert len(history) == 3
    assert security.is_password("Password-2", history[0])
    assert history[-1] == user["password_hash"]
    action, _, new = (await audited(db))[-1]
    assert (action, list(new)) == ("user.update", ["password_set_at"])


@pytest.mark.slow
async def test_many_passwords_take_longer_than_a_transaction_may_be_idle(db: Connection) -> None:
    made = security.random_hash()

    async def slowly(_: str) -> str:
        await asyncio.sleep(0.05)
        return made

    users = [{"email": f"{number}@b.example", "password": "Password-1"} for number in range(160)]
    await db.execute("SET idle_in_transaction_session_timeout = '1500ms'")
    assert (await bring(db, {"users": users}, hashed=slowly)).kinds["users"].added == 160


async def test_a_password_may_be_weaker_than_the_api_allows(db: Connection) -> None:
    for password in ("old", "new", "old"):
        await bring(db, {"users": [{"email": "a@b.example", "password": password}]})
    assert security.is_password("old", await db.fetchval("SELECT password_hash FROM users"))


# Tokens


async def expiry(db: Connection) -> datetime:
    found: datetime = await db.fetchval("SELECT expires_at FROM tokens")
    return found


async def token_that_expires(db: Connection, **when: int) -> datetime:
    changed = data()
    del changed["tokens"][0]["expires_in"]
    changed["tokens"][0] |= when
    await bring(db, changed)
    return await expiry(db)


async def test_expires_in_counts_from_the_import(db: Connection) -> None:
    before, hour = datetime.now(UTC), timedelta(hours=1)
    assert before + hour <= await token_that_expires(db, expires_in=3600) <= datetime.now(UTC) + hour


async def test_expires_in_keeps_the_expiry_of_an_active_token(db: Connection) -> None:
    first = await token_that_expires(db, expires_in=3600)
    assert await token_that_expires(db, expires_in=7200) == first


async def test_expires_in_reactivates_or_expires_a_token(db: Connection) -> None:
    await token_that_expires(db, expires_in=-60)
    assert await expiry(db) < datetime.now(UTC)
    assert await token_that_expires(db, expires_in=3600) > datetime.now(UTC)
    assert await token_that_expires(db, expires_in=0) < datetime.now(UTC)


async def test_expires_at_is_a_time(db: Connection) -> None:
    assert await token_that_expires(db, expires_at=1_900_000_000) == datetime.fromtimestamp(1_900_000_000, UTC)
    assert await token_that_expires(db, expires_at=253_402_300_799) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


async def test_a_token_gets_of_its_scope_what_the_type_of_its_client_allows(db: Connection) -> None:
    beyond = data()
    beyond["tokens"][0]["details"]["scope"] = "c b"
    assert (await bring(db, beyond)).kinds["tokens"] == Counts(added=1)
    assert await db.fetchval("SELECT scope FROM tokens") == "b"
    assert (await bring(db, beyond)).kinds["tokens"] == Counts(unchanged=1)
    beyond["tokens"][0]["details"]["scope"] = "c d"
    expected = "$.tokens[0].details.scope: nothing of it is allowed by client type"
    assert await refusal(db, beyond) == expected
    beyond["tokens"][0]["value"] = "another"
    assert (await bring(db, beyond, only_missing=True)).kinds["tokens"] == Counts(unchanged=1)


async def test_a_connection_in_the_details_of_a_token_becomes_its_column(db: Connection) -> None:
    inside = data()
    inside["tokens"][0]["details"]["connection_id"] = inside["tokens"][0].pop("connection_id")
    await bring(db, inside)
    assert str(await db.fetchval("SELECT connection_id FROM tokens")) == CONNECTION


# Refusals


def at(key: str, index: int, **changes: Any) -> Data:
    """Return the data with one object changed; None removes a key."""
    changed = data()
    row = changed[key][index] | changes
    changed[key][index] = {name: value for name, value in row.items() if value is not ...}
    return changed


def plus(key: str, **changes: Any) -> Data:
    """Return the data with one more object: the first one of its kind, changed."""
    changed = data()
    row = changed[key][0] | changes
    changed[key].append({name: value for name, value in row.items() if value is not ...})
    return changed


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{\n"clients": [\n}', "line 3: Expecting value"),
    "nothing": (b"", "line 1: Expecting value"),
    "not UTF-8": (b'{\n"_": "\xff"}', "line 2: not valid UTF-8"),
    "no object": (b"[]", "$: type mismatch. Expected object but got array"),
    "NaN": (b'{"_": [NaN]}', "$._[0]: NaN is not JSON"),
    "a key twice": (b'{"clients": [{"id": 1, "id": 2}]}', "$.clients[0]: the key 'id' stands twice"),
    "too deep": (b'{"_":' + b"[" * 65 + b"]" * 65 + b"}", "nested more than 64 levels deep"),
    "far too deep": (b"[" * 100_000, "$: nested more than 64 levels deep"),
    "a vast number": (b'{"_": 1' + b"0" * 5000 + b"}", "$._: the number is too long, too large"),
    "a vast exponent": (b'{"_": 1e99999999999999999999}', "$._: the number is too long, too large"),
    "many digits": (b'{"_": 0.1' + b"1" * 400 + b"}", "$._: the number is too long"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_malformed_file_is_refused_with_the_position(content: bytes, message: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        snapshots.read(content)
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Any) -> None:
    with pytest.raises(SnapshotError, match=r"cannot be read: No such file"):
        snapshots.read(tmp_path / "none.json")


def test_a_file_is_read_by_its_path(tmp_path: Any) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(data()).encode())
    assert len(snapshots.read(path).users) == 2


BAD_OBJECTS: dict[str, tuple[Any, str]] = {
    "unknown list": ({"client": []}, "$.client: schema does not allow additional properties"),
    "unknown key": (at("clients", 1, secret="x"), "$.clients[1].secret: schema does not allow additional properties"),
    "missing key": (at("clients", 1, name=...), "$.clients[1].name: required property name was not present"),
    "wrong type": (
        at("users", 0, is_blocked="no"),
        "$.users[0].is_blocked: type mismatch. Expected boolean but got string",
    ),
    "null": (at("users", 0, tax_id=None), "$.users[0].tax_id: type mismatch. Expected string but got null"),
    "client without id": (at("clients", 0, id=...), "$.clients[0].id: required property id was not present"),
    "UUID without hyphens": (at("clients", 0, id="0" * 32), "$.clients[0].id: value is not a valid uuid"),
    "UUID and a line end": (at("clients", 0, id=CLINIC + "\n"), "$.clients[0].id: value is not a valid uuid"),
    "no e-mail": (at("users", 0, email="nobody"), "$.users[0].email: is not a valid email"),
    "long e-mail": (
        at("users", 0, email="a@" + "b" * 254),
        "$.users[0].email: expected value to have a maximum length of 255",
    ),
    "empty name": (at("roles", 1, name=""), "$.roles[1].name: can't be blank"),
    "blank name": (at("clients", 1, name=" \t"), "$.clients[1].name: can't be blank"),
    "blank scope": (at("approvals", 0, scope=""), "$.approvals[0].scope: can't be blank"),
    "long scope": (at("roles", 0, scope="s" * 16_385), "$.roles[0].scope: expected value to have a maximum length"),
    "a grant type that is no list": (
        at("clients", 0, settings={"allowed_grant_types": "password"}),
        "$.clients[0].settings.allowed_grant_types: type mismatch. Expected ",
    ),
    "e-mail without a domain": (at("users", 0, email="a@b"), "$.users[0].email: is not a valid email"),
    "long value": (at("tokens", 0, value="v" * 256), "$.tokens[0].value: expected value to have a maximum length"),
    "no UUID in the details": (
        at("tokens", 0, details={"client_id": CLINIC, "connection_id": "x"}),
        "$.tokens[0].details.connection_id: value is not a valid uuid",
    ),
    "long name": (at("roles", 1, name="n" * 256), "$.roles[1].name: expected value to have a maximum length of 255"),
    "empty secret": (
        at("connections", 0, secret=""),
        "$.connections[0].secret: expected value to have a minimum length of 1",
    ),
    "no access type": (at("clients", 0, priv_settings={}), "$.clients[0].priv_settings: access_type required."),
    "other access type": (
        at("clients", 0, priv_settings={"access_type": "ANY"}),
        "$.clients[0].priv_settings: access_type is invalid.",
    ),
    "other factor": (
        at("authentication_factors", 0, type="TOTP"),
        "$.authentication_factors[0].type: value is not allowed in enum",
    ),
    "no phone": (at("authentication_factors", 0, factor="+1"), "$.authentication_factors[0].factor: invalid phone"),
    "blank phone": (at("authentication_factors", 0, factor=" "), "$.authentication_factors[0].factor: invalid phone"),
    "no expiry": (at("tokens", 0, expires_in=...), "$.tokens[0]: exactly one of expires_at and expires_in"),
    "two expiries": (at("tokens", 0, expires_at=1), "$.tokens[0]: exactly one of expires_at and expires_in"),
    "vast expires_in": (
        at("tokens", 0, expires_in=10**12),
        "$.tokens[0].expires_in: expected the value to be <= 10000000000",
    ),
    "vaster expires_in": (at("tokens", 0, expires_in=10**400), "$.tokens[0].expires_in: the number is too long"),
    "a fraction": (
        at("tokens", 0, expires_in=1.5),
        "$.tokens[0].expires_in: type mismatch. Expected integer but got number",
    ),
    "vast expires_at": (
        at("tokens", 0, expires_in=..., expires_at=253_402_300_800),
        "$.tokens[0].expires_at: expected the value to be <= 253402300799",
    ),
    "token without client": (
        at("tokens", 0, details={}),
        "$.tokens[0].details.client_id: required property client_id was not present",
    ),
    "two connections of a token": (
        at("tokens", 0, details={"client_id": CLINIC, "connection_id": CONNECTION}),
        "$.tokens[0].connection_id: stands in details too",
    ),
    "NUL": (at("users", 0, tax_id="1\0"), "$.users[0].tax_id: has a NUL character"),
    "NUL far inside": (at("clients", 0, settings={"a": ["\0"]}), "$.clients[0].settings.a[0]: has a NUL"),
    "NUL in a key": (at("clients", 0, settings={"\0": 1}), "$.clients[0].settings (one of its keys): has a NUL"),
    "half a pair": (at("tokens", 0, value="\ud800"), "$.tokens[0].value: has half of a surrogate pair"),
}

BAD_ROWS: dict[str, tuple[Any, str]] = {
    "bad address": (
        at("connections", 0, redirect_uri="http://a.example.com/#x"),
        "$.connections[0].redirect_uri: refused (fragment, scheme)",
    ),
    "unknown type": (at("clients", 1, client_type="NHS"), "$.clients[1].client_type: no client type 'NHS'"),
    "a role is no type": (at("clients", 1, client_type="OWNER"), "$.clients[1].client_type: no client type 'OWNER'"),
    "unknown role": (at("user_roles", 0, role=NOBODY), f"$.user_roles[0].role: no role '{NOBODY}'"),
    "unknown owner": (at("clients", 0, user_id=NOBODY), f"$.clients[0].user_id: no user {NOBODY}"),
    "unknown client": (
        at("connections", 0, client_id=NOBODY),
        f"$.connections[0].client_id: no client {NOBODY}",
    ),
    "unknown consumer": (
        at("connections", 0, consumer_id=NOBODY),
        f"$.connections[0].consumer_id: no client {NOBODY}",
    ),
    "unknown connection": (
        at("tokens", 0, connection_id=NOBODY),
        f"$.tokens[0].connection_id: no connection {NOBODY}",
    ),
    "unknown client of a token": (
        at("tokens", 0, details={"client_id": NOBODY}),
        f"$.tokens[0].details.client_id: no client {NOBODY}",
    ),
    "an id twice": (plus("users", email="c@d.example"), "$.users[2].id: $.users[0] has the same id"),
    "an e-mail twice": (
        plus("users", id=..., email="OWNER@clinic.example"),
        "$.users[2].email: $.users[0] has the same e-mail address",
    ),
    "a pair twice": (
        plus("connections", id=..., secret="x" * 20),
        "$.connections[1].consumer_id: $.connections[0] has the same client_id and consumer_id",
    ),
    "a secret twice": (
        plus("connections", id=..., client_id=MIS),
        "$.connections[1].secret: $.connections[0] has the same secret",
    ),
    "a token twice": (plus("tokens"), "$.tokens[1].value: $.tokens[0] has the same value"),
    "a role twice": (plus("user_roles"), "$.user_roles[1].role: $.user_roles[0] has the same user_id, "),
    "an approval twice": (plus("approvals", scope="z"), "$.approvals[1].client_id: $.approvals[0] has the same"),
}


@pytest.mark.parametrize(("content", "message"), BAD_OBJECTS.values(), ids=BAD_OBJECTS)
def test_an_entry_with_a_wrong_format_is_refused_with_its_key(content: Any, message: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        snapshots.read(json.dumps(content).encode())
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("section", SECTIONS, ids=[section.name for section in SECTIONS])
def test_a_row_may_say_what_the_api_lets_a_caller_say(section: Section) -> None:
    """The schema of a row is that of the API, but for what docs/import.md tells."""
    page = (repository() / "docs/import.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("|") and f"`{section.name}`" in line)
    needed, possible = (set(re.findall("`(.*?)`", cell)) for cell in line.split("|")[2:4])
    keys = set(section.schema["properties"]) - {"id"}
    assert keys <= needed | possible
    assert set(section.schema["required"]) <= needed
    own = {"password", "tax_id", "person_id", "user_id", "details"}
    for name, rule in section.fields.schema["properties"].items():
        assert name in own or section.schema["properties"].get(name, rule) == rule


@pytest.mark.parametrize(("content", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
async def test_an_impossible_value_is_refused_with_its_key(untouched_url: str, content: Any, message: str) -> None:
    db = await asyncpg.connect(untouched_url)
    found = await refusal(db, content)
    await db.close()
    assert found.startswith(message)
    assert [hidden for hidden in (SECRET, TOKEN, PASSWORD) if hidden in found] == []


async def test_a_refusal_at_the_end_changes_nothing(db: Connection) -> None:
    await bring(db, {"users": [{"email": "a@b.example"}]})
    assert (await refusal(db, at("tokens", 0, user_id=NOBODY))).startswith("$.tokens[0].user_id")
    assert await db.fetchval("SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"users": [{"id": NOBODY, "email": "owner@clinic.example"}]}, f".email: the user {OWNER} has the same e-mail"),
        (
            {"connections": [{**data()["connections"][0], "id": NOBODY}]},
            f".consumer_id: the connection {CONNECTION} has the same client_id and consumer_id",
        ),
        (
            {"connections": [{**data()["connections"][0], "id": ..., "client_id": MIS}]},
            f".secret: the connection {CONNECTION} has the same secret",
        ),
        (
            {"connections": [{**data()["connections"][0], "id": ..., "client_id": MIS, "secret": "previous"}]},
            f".secret: the connection {CONNECTION} has the same secret",
        ),
        (
            {"users": [{"id": OWNER, "email": "new@clinic.example"}, {"email": "owner@clinic.example"}]},
            "[1]: the same user as $.users[0]",
        ),
    ],
    ids=["e-mail", "pair", "secret", "previous secret", "one row by two names"],
)
async def test_a_value_of_another_row_is_refused(db: Connection, content: Data, message: str) -> None:
    await bring(db, data())
    await db.execute(
        "UPDATE connections SET previous_secret_digest = $1, previous_secret_expires_at = now()",
        security.digest("previous"),
    )
    content = {key: [{n: v for n, v in row.items() if v is not ...} for row in rows] for key, rows in content.items()}
    assert message in await refusal(db, content)


async def test_a_violation_found_by_the_database_names_the_row(db: Connection) -> None:
    await bring(db, data())
    await db.execute("ALTER TABLE roles ADD CONSTRAINT short_scope CHECK (length(scope) < 9)")
    found = await refusal(db, at("roles", 1, scope="a longer scope"))
    assert found == "$.roles[1]: the database refuses it (short_scope)"


# The demo


async def test_the_demo_data_is_added_and_then_not_changed(db: Connection) -> None:
    report = await imported(db, snapshots.demo(), only_missing=True)
    assert report.kinds["tokens"] == Counts(added=len(snapshots.demo().tokens))
    await db.execute("UPDATE connections SET redirect_uri = 'https://example3.com' WHERE id = $1", CONNECTION)
    await db.execute("UPDATE users SET password_hash = 'x', email = 'moved@clinic.example' WHERE id = $1", OWNER)
    before = await everything(db)
    report = await imported(db, snapshots.demo(), only_missing=True)
    assert all(counts.added == counts.changed == 0 for counts in report.kinds.values())
    assert await everything(db) == before


async def test_existing_demo_data_is_checked_quickly(db: Connection) -> None:
    await imported(db, snapshots.demo(), only_missing=True)
    started = time.process_time()
    await imported(db, snapshots.demo(), only_missing=True)
    assert time.process_time() - started < 0.5  # a tenth of it, on most machines


async def test_missing_demo_data_is_added(db: Connection) -> None:
    await imported(db, snapshots.demo(), only_missing=True)
    await db.execute("DELETE FROM connections WHERE id = $1", CONNECTION)
    report = await imported(db, snapshots.demo(), only_missing=True)
    assert report.kinds["connections"] == Counts(added=1, unchanged=len(snapshots.demo().connections) - 1)


async def test_scopes_of_an_import_are_folded(db: Connection) -> None:
    loose = data()
    loose["client_types"][0]["scope"] = "  a   b a "
    loose["tokens"][0]["details"]["scope"] = "b  a  b"
    assert (await bring(db, loose)).kinds["client_types"].added == 2
    assert (await bring(db, loose)).kinds["client_types"].unchanged == 2
    assert await db.fetchval("SELECT scope FROM client_types WHERE name = 'MSP'") == "a b"
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE scope = 'b a'") == 1


@pytest.mark.parametrize("section", ["client_types", "roles", "approvals"])
async def test_a_malformed_scope_is_not_imported(db: Connection, section: str) -> None:
    wrong = data()
    wrong[section][0]["scope"] = "a\u2003b"
    assert (await refusal(db, wrong)).startswith(f"$.{section}[0].scope: string does not match pattern")


async def test_the_demo_does_not_age(db: Connection) -> None:
    """After a start no password and no token of its users is too old, whatever has ended it."""
    await started(db)
    await db.execute("UPDATE users SET password_set_at = now() - interval '91 days'")
    await db.execute("UPDATE tokens SET expires_at = now() WHERE client_id <> $1", CLINIC)
    await db.execute("DELETE FROM tokens WHERE client_id = $1 AND user_id <> $2", CLINIC, OWNER)
    await db.execute("UPDATE clients SET is_blocked = NOT is_blocked WHERE id = $1", CLINIC)  # revokes its tokens
    await db.execute("UPDATE clients SET is_blocked = NOT is_blocked WHERE id = $1", CLINIC)
    await db.execute(
        "INSERT INTO users (email, password_set_at) VALUES ('old@other.example', now() - interval '1 year')"
    )
    await started(db)
    aged = "SELECT email FROM users WHERE password_set_at < now() - interval '1 day' AND id <> $1"
    assert [row["email"] for row in await db.fetch(aged, SYSTEM)] == ["old@other.example"]
    good = "SELECT count(*) FROM tokens t WHERE expires_at > now() + interval '9 years' AND token_scope(t) = scope"
    assert await db.fetchval(good) == len(snapshots.demo().tokens) - 1  # one is meant to be expired


async def test_a_start_keeps_what_was_done_with_the_demo(db: Connection) -> None:
    await started(db)
    await db.execute("UPDATE connections SET redirect_uri = 'https://example3.com' WHERE id = $1", CONNECTION)
    await db.execute("UPDATE users SET password_hash = 'x' WHERE id = $1", OWNER)
    trail = await audited(db)
    await started(db)
    assert await db.fetchval("SELECT redirect_uri FROM connections WHERE id = $1", CONNECTION) == "https://example3.com"
    assert await db.fetchval("SELECT password_hash FROM users WHERE id = $1", OWNER) == "x"
    assert await audited(db) == trail


async def test_the_users_of_the_demo_share_one_hash_and_can_sign_in(db: Connection) -> None:
    await started(db)
    (kept,) = await db.fetch("SELECT DISTINCT password_hash FROM users WHERE password_hash IS NOT NULL")
    assert security.is_password("Demo-Password-1", kept[0])
    await bring(db, {"users": [{"email": f"{n}@other.example", "password": PASSWORD} for n in range(2)]})
    others = "SELECT DISTINCT password_hash FROM users WHERE email LIKE '%@other.example'"
    assert len(await db.fetch(others)) == 2  # an import shares none


async def test_a_reset_brings_the_demo_back_to_its_first_state(db: Connection) -> None:
    await started(db)
    first = await snapshots.export_snapshot(db)
    await bring(db, data() | {"users": [{"id": str(uuid4()), "email": "added@other.example"}]})
    await db.execute("UPDATE clients SET is_blocked = true, settings = '{\"a\": 1}' WHERE id = $1", CLINIC)
    await db.execute("UPDATE client_types SET scope = 'a' WHERE name = 'PHARMACY'")
    await db.execute("DELETE FROM users WHERE email = 'doctor@clinic.example'")
    await db.execute("INSERT INTO attempts (key, count) VALUES ('a', 9)")
    trail = await db.fetchval("SELECT count(*) FROM audit_events")
    removed = await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert removed == demo.Added(users=1, clients=0)
    assert without_chance(await snapshots.export_snapshot(db)) == without_chance(first)
    good = "SELECT count(*) FROM tokens t WHERE expires_at > now() AND token_scope(t) = scope"
    assert await db.fetchval(good) == len(snapshots.demo().tokens) - 1
    assert await db.fetchval("SELECT count(*) FROM attempts") == 0
    deleted = await db.fetch("SELECT old ->> 'email' AS email FROM audit_events WHERE action = 'user.delete'")
    assert "added@other.example" in {row["email"] for row in deleted}
    assert await db.fetchval("SELECT count(*) FROM audit_events") > trail


async def test_the_program_of_the_demo_follows_the_server_and_stays_there_at_a_reset(db: Connection) -> None:
    where = "SELECT redirect_uri FROM connections WHERE id = $1"

    async def start(origin: str) -> str:
        await demo.start(db, actor=Actor(request_id="a test"), policy=Policy(), origin=origin)
        found: str = await db.fetchval(where, demo.program().connection_id)
        return found

    assert await start("http://127.0.0.1:4000") == "http://127.0.0.1:4000/demo/callback"
    assert await start("http://127.0.0.1:4010") == "http://127.0.0.1:4010/demo/callback"
    await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert await db.fetchval(where, demo.program().connection_id) == "http://127.0.0.1:4010/demo/callback"
    moved = "UPDATE connections SET redirect_uri = 'https://example.com/else'"
    await db.execute(moved)
    await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert await db.fetchval(where, demo.program().connection_id) == "https://mis.example.com/training"


async def test_a_database_without_the_demo_is_not_reset(db: Connection) -> None:
    await bring(db, {"users": [{"id": SYSTEM, "email": "a@b.example"}], "roles": data()["roles"]})
    before = await everything(db)
    with pytest.raises(SnapshotError, match="no demo data"):
        await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert await everything(db) == before


async def test_nothing_of_a_failed_reset_is_done(db: Connection) -> None:
    await started(db)
    await db.execute("ALTER TABLE roles ADD CONSTRAINT none CHECK (name <> 'OWNER') NOT VALID")
    before = await everything(db)
    with pytest.raises(SnapshotError):
        await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert await everything(db) == before


def test_every_role_of_the_demo_has_users_who_may_have_all_of_its_scopes() -> None:
    """So that a program can ask for all scopes of a role at once, as programs do."""
    found = snapshots.demo()
    scopes = {kind: {row["name"]: set(row["scope"].split()) for row in getattr(found, kind)} for kind in KINDS}
    types = {client["id"]: client["client_type"] for client in found.clients}
    holders: dict[str, set[str]] = {}
    for given in (*found.user_roles, *found.global_user_roles):
        holders.setdefault(given["role"], set()).add(given["user_id"])
        if "client_id" in given:
            assert scopes["roles"][given["role"]] <= scopes["client_types"][types[given["client_id"]]], given
    assert all(len(holders[role]) > 1 for role in STAFF.split())
    (mis,) = (client for client in found.clients if client["id"] == MIS)
    broker = set(mis["priv_settings"]["broker_scope"].split())
    brokered = {types[row["client_id"]] for row in found.connections if row["client_id"] != row["consumer_id"]}
    assert all(scopes["client_types"][kind] <= broker for kind in brokered)


async def test_demo_rows_that_conflict_with_others_are_skipped(db: Connection) -> None:
    await imported(db, snapshots.demo(), only_missing=True)
    await db.execute("UPDATE connections SET id = gen_random_uuid() WHERE id = $1", CONNECTION)
    await db.execute("UPDATE client_types SET name = 'Cabinet' WHERE name = 'CABINET'")
    await db.execute("DELETE FROM users WHERE id = $1", OWNER)  # with the clinic, its roles, its tokens
    await db.execute("INSERT INTO users (email) VALUES ('owner@clinic.example')")
    before = await everything(db)
    await imported(db, snapshots.demo(), only_missing=True)
    assert await everything(db) == before


async def test_two_servers_may_start_with_the_demo_at_once(db: Connection, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    reports = await asyncio.gather(*(started(connection) for connection in (db, other)))
    await other.close()
    assert sorted(report.kinds["users"].added for report in reports) == [0, len(snapshots.demo().users)]


async def test_the_demo_data_passes_the_strict_import(db: Connection) -> None:
    await imported(db, snapshots.demo(), only_missing=True)
    before = await everything(db)
    await imported(db, snapshots.demo())
    assert await everything(db) == before


# Export


async def test_an_export_into_an_empty_database_is_the_same_export(db: Connection) -> None:
    await imported(db, snapshots.demo())
    await bring(db, data() | {"tokens": []})
    exported = await snapshots.export_snapshot(db)
    await db.execute("TRUNCATE users, client_types, roles CASCADE")
    report = await bring(db, exported)
    assert await snapshots.export_snapshot(db) == exported
    assert len(report.without_secret) == len(snapshots.demo().connections)


async def test_an_export_over_the_data_it_came_from_changes_nothing(db: Connection) -> None:
    await imported(db, snapshots.demo())
    settings = '{"long": 0.12345678901234567890123, "n": [1e300, 1e-300, 1.10, -0.5, 12345678901234567890, null, "є"]}'
    await db.execute("UPDATE clients SET settings = $1", settings)
    before = await everything(db)
    await bring(db, await snapshots.export_snapshot(db))
    assert await everything(db) == before


async def test_a_stored_redirect_uri_against_the_rules_may_stay_but_not_be_imported(db: Connection) -> None:
    local = data()
    local["connections"][0]["redirect_uri"] = "http://localhost:3000/callback"
    assert "refused (scheme, non_public_host)" in await refusal(db, local)
    await bring(db, local, policy=Policy(allow_loopback=True))
    before = await everything(db)
    await bring(db, await snapshots.export_snapshot(db))
    assert await everything(db) == before
    local["connections"][0]["redirect_uri"] = "http://localhost:3001/callback"
    assert "refused (scheme, non_public_host)" in await refusal(db, local)


async def test_an_export_has_the_imported_data_without_secrets(db: Connection) -> None:
    await bring(db, data())
    exported = json.loads(await snapshots.export_snapshot(db))
    connection = {k: v for k, v in data()["connections"][0].items() if k != "secret"}
    assert exported["connections"] == [connection | {"transition": None}]
    assert exported["authentication_factors"][0]["factor"] == "+380501112233"
    assert exported["clients"][1] == {
        **data()["clients"][1],
        "settings": {},
        "is_blocked": False,
        "block_reason": None,
    }
    role = exported["user_roles"][0]
    assert {key: role[key] for key in ("user_id", "client_id", "role")} == data()["user_roles"][0]
    assert "tokens" not in exported


async def test_an_empty_export_can_be_imported(db: Connection) -> None:
    assert str(await bring(db, await snapshots.export_snapshot(db))) == "nothing in the file"


# Secrets and the audit trail


async def test_no_secret_is_stored_or_exported_as_text(db: Connection) -> None:
    hidden = [SECRET, "second-secret-0123456789", TOKEN, "refresh-0123456789", PASSWORD, "Second-Password-1"]
    content = at("tokens", 0, details={"client_id": CLINIC, "refresh_token": "refresh-0123456789"})
    await bring(db, content)
    content = copy.deepcopy(content)
    content["connections"][0]["secret"] = "second-secret-0123456789"
    content["users"][0]["password"] = "Second-Password-1"
    await bring(db, content)
    told = str(await everything(db)) + (await snapshots.export_snapshot(db)).decode()
    assert CONNECTION in told
    assert [value for value in hidden if value in told] == []
    hashes = [row[0] for row in await db.fetch("SELECT password_hash FROM password_hstr")]
    trail = str(await audited(db)) + (await snapshots.export_snapshot(db)).decode()
    digests = [security.digest(value).hex() for value in hidden]
    assert [value for value in (*hidden, *digests, *hashes) if value in trail] == []


async def test_each_change_except_of_a_token_is_audited(db: Connection) -> None:
    await bring(db, data())
    rows = await db.fetch("SELECT * FROM audit_events ORDER BY id")
    assert [row["action"] for row in rows] == [
        *("client_type.create", "client_type.create", "role.create", "role.create", "user.create", "user.create"),
        *("client.create", "client.create", "connection.create", "user_role.create", "global_user_role.create"),
        *("approval.create", "authentication_factor.create"),
    ]
    assert {row["request_id"] for row in rows} == {"a test"}
    connection = rows[8]
    assert (str(connection["subject_id"]), str(connection["client_id"])) == (CONNECTION, CLINIC)
    assert (connection["old"], json.loads(connection["new"])) == (
        None,
        {
            "client_id": CLINIC,
            "consumer_id": MIS,
            "redirect_uri": "https://mis.example.com/callback",
            "secret_tail": "6789",
        },
    )
    assert [str(row["client_id"]) for row in rows[6:8]] == [CLINIC, MIS]


async def test_rows_keep_the_order_of_the_file(db: Connection) -> None:
    emails = [f"{number:02}@x.example" for number in range(30, 0, -1)]
    await bring(db, {"users": [{"email": email} for email in emails]})
    rows = await db.fetch("SELECT email FROM users ORDER BY inserted_at, id")
    assert [row["email"] for row in rows] == emails


@pytest.mark.slow
async def test_the_work_of_an_import_grows_with_its_rows_and_not_faster(db: Connection) -> None:
    """Counted in statements and in rows that PostgreSQL reads, for 4000 rows that are imported twice."""
    ids = [str(uuid4()) for _ in range(2000)]
    content = {
        "client_types": data()["client_types"],
        "users": data()["users"],
        "clients": [{**data()["clients"][0], "id": client_id} for client_id in ids],
        "connections": [
            {
                "client_id": client_id,
                "consumer_id": ids[0],
                "redirect_uri": "https://a.example.com",
                "secret": str(uuid4()),
            }
            for client_id in ids
        ],
    }
    statements: list[str] = []
    db.add_query_logger(lambda asked: statements.append(asked.query))
    for _ in range(2):
        report = await bring(db, content)
    assert report.kinds["connections"] == Counts(unchanged=2000)
    assert len(statements) < 1.5 * 8000, "one for a row, and some for all"
    await db.execute("SELECT pg_stat_force_next_flush()")
    read = "SELECT sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
    assert await db.fetchval(read) < 10 * 8000, "no row is looked for among all the others"


# Transitions of connections

NEW_URI = "https://new.example.com/callback"


def moving(redirect_uri: str = NEW_URI, *, hours: float = 1.0, **changes: Any) -> Data:
    """The data with a transition of the connection."""
    ends_at = datetime.now(UTC) + timedelta(hours=hours)
    given = data()
    given["connections"][0] |= {"transition": {"redirect_uri": redirect_uri, "ends_at": ends_at.isoformat()}} | changes
    return given


async def actions(db: Connection) -> list[str]:
    found = await db.fetch("SELECT action FROM audit_events WHERE subject_id = $1 ORDER BY id", UUID(CONNECTION))
    return [row["action"].removeprefix("connection.") for row in found]


async def shown(db: Connection) -> tuple[str, Any]:
    """What an export says of the connection."""
    (row,) = json.loads(await snapshots.export_snapshot(db))["connections"]
    return row["redirect_uri"], row["transition"]


async def test_a_transition_is_imported_and_exported(db: Connection) -> None:
    given = moving()
    assert (await bring(db, given)).kinds["connections"].added == 1
    assert (await bring(db, given)).kinds["connections"].unchanged == 1, "a second import changes nothing"
    old, transition = await shown(db)
    assert (old, transition["redirect_uri"]) == ("https://mis.example.com/callback", NEW_URI)
    wanted = given["connections"][0]["transition"]["ends_at"]
    assert datetime.fromisoformat(transition["ends_at"]) == datetime.fromisoformat(wanted)
    exported = json.loads(await snapshots.export_snapshot(db))
    assert (await bring(db, exported)).kinds["connections"].unchanged == 1
    assert await actions(db) == ["create", "begin_transition"]


async def test_a_row_without_a_transition_leaves_it_unless_the_redirect_uri_differs(db: Connection) -> None:
    await bring(db, moving())
    kept = await shown(db)
    assert (await bring(db, data())).kinds["connections"].unchanged == 1
    assert await shown(db) == kept
    other = data()
    other["connections"][0]["redirect_uri"] = "https://third.example.com/"
    assert (await bring(db, other)).kinds["connections"].changed == 1
    assert await shown(db) == ("https://third.example.com/", None)
    assert await actions(db) == ["create", "begin_transition", "update"]


async def test_a_row_may_say_that_there_is_no_transition(db: Connection) -> None:
    await bring(db, moving())
    none = data()
    none["connections"][0]["transition"] = None
    assert (await bring(db, none)).kinds["connections"].changed == 1
    assert await shown(db) == ("https://mis.example.com/callback", None)
    assert await actions(db) == ["create", "begin_transition", "cancel_transition"]


async def test_of_a_transition_that_has_ended_the_new_redirect_uri_is_imported(db: Connection) -> None:
    for _ in range(2):
        await bring(db, moving(hours=-1))
        assert await shown(db) == (NEW_URI, None)
    assert await actions(db) == ["create"]


async def test_an_export_and_an_import_take_the_end_of_a_transition_into_account(db: Connection) -> None:
    await bring(db, moving())
    await db.execute("UPDATE connections SET transition_ends_at = now() - interval '1 s'")
    await db.execute("UPDATE transitions_due SET ends_at = now() - interval '1 s'")
    assert await shown(db) == (NEW_URI, None)
    assert (await bring(db, json.loads(await snapshots.export_snapshot(db)))).kinds["connections"].unchanged == 1
    assert await actions(db) == ["create", "begin_transition", "complete_transition"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (moving("https://mis.example.com/callback"), "$.connections[0].transition.redirect_uri: refused (unchanged)"),
        (moving("https://10.0.0.1/"), "$.connections[0].transition.redirect_uri: refused (ip_literal)"),
        (moving(hours=31 * 24), "$.connections[0].transition.ends_at: more than 30 days ahead"),
        (moving(transition={"redirect_uri": NEW_URI}), "$.connections[0].transition.ends_at: "),
        (moving(transition={"redirect_uri": NEW_URI, "ends_at": "soon"}), "$.connections[0].transition"),
        (moving(transition=NEW_URI), "$.connections[0].transition: "),
    ],
)
async def test_a_transition_that_breaks_a_rule_is_refused(db: Connection, given: Data, message: str) -> None:
    assert (await refusal(db, given)).startswith(message)


async def test_a_reset_forgets_transitions_and_uses_of_secrets(db: Connection) -> None:
    await started(db)
    move = "transition_redirect_uri = 'https://x.example.com/', transition_since = 9, transition_began_at = now()"
    await db.execute(f"UPDATE connections SET {move}, transition_ends_at = now() + interval '1 h'")
    await db.execute("INSERT INTO secret_uses VALUES ('x', now())")
    await demo.reset(db, actor=Actor(request_id="a test"), policy=Policy())
    assert await db.fetchval("SELECT count(transition_redirect_uri) FROM connections") == 0
    assert await db.fetchval("SELECT count(*) FROM secret_uses") == 0


# Dry runs and operations


async def tried(db: Connection, content: Data) -> Report:
    snapshot = snapshots.read(json.dumps(content).encode())
    return await snapshots.try_snapshot(db, snapshot, actor=Actor(request_id="a test"), policy=Policy())


# The database keeps microseconds, and the report shows seconds.
ENDS_AT = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)


def changed_data() -> Data:
    """Return what differs from `data` in each way."""
    changed = data()
    changed["client_types"][0]["scope"] = "b c"
    changed["users"][0] |= {"password": "Second-Password-1", "tax_id": "3067305999"}
    changed["users"].append({"email": "new@clinic.example", "password": "Third-Password-1"})
    changed["clients"][0] |= {"name": "Інша\x1b", "client_type": "MIS", "settings": {"n": 1.10, "m": ["x"]}}
    changed["connections"][0] |= {"secret": "second-secret-0123456789"}
    changed["connections"][0] |= {"transition": {"redirect_uri": NEW_URI, "ends_at": f"{ENDS_AT:%Y-%m-%dT%H:%M:%SZ}"}}
    changed["connections"].append({"client_id": MIS, "consumer_id": MIS, "redirect_uri": NEW_URI})
    changed["tokens"][0]["details"] |= {"scope": "b"}
    return changed


async def test_a_dry_run_changes_nothing_and_counts_as_the_import_does(db: Connection) -> None:
    empty = await everything(db)
    first = await tried(db, data())
    assert await everything(db) == empty
    assert first.kinds == (await bring(db, data())).kinds
    before = await everything(db)
    second = await tried(db, changed_data())
    assert await everything(db) == before, "no password, token or audit row has changed"
    assert await db.fetchval("SELECT count(*) FROM revocations") == 0
    assert second.kinds == (await bring(db, changed_data())).kinds
    assert (await tried(db, changed_data())).rows == []


async def test_a_dry_run_shows_each_field_and_no_secret(db: Connection) -> None:
    await bring(db, data())
    report = await tried(db, changed_data())
    assert report.rows
    found = {(row.section, row.outcome): row for row in report.rows}
    assert list(found) == [
        *(("client_types", "changed"), ("users", "changed"), ("users", "added"), ("clients", "changed")),
        *(("connections", "changed"), ("connections", "added"), ("tokens", "changed")),
    ]
    ends = f"{ENDS_AT:%Y-%m-%dT%H:%M:%SZ}"
    shown_changes = {str(change) for row in report.rows for change in row.changes if change.field != "expires_at"}
    assert shown_changes == {
        "scope: - a\nscope: + c",
        "tax_id: 3067305998 -> 3067305999",
        "password: changed",
        "name: Клініка -> Інша\\x1b",
        'settings.m: none -> ["x"]',
        "client_type: MSP -> MIS",
        "secret: changed",
        f"transition.redirect_uri: none -> {NEW_URI}",
        f"transition.ends_at: none -> {ends}",
        "details.scope: - a\ndetails.scope: + b",
    }, "and the new password ends the token, which the file brings back"
    assert found["users", "added"].name == "new@clinic.example"
    assert (found["users", "added"].id, found["clients", "changed"].id) == (None, CLINIC)
    assert found["connections", "added"].gets_secret
    assert not report.without_secret, "the import draws other ids"
    shown = str(report) + msgspec.json.encode(report).decode()
    digests = [value for values in (await everything(db))["connections"] for value in re.findall(r"\\x\w+", values)]
    for secret in (
        SECRET,
        "second-secret",
        TOKEN,
        PASSWORD,
        "Second-Password-1",
        "Third-Password-1",
        "$argon2",
        *digests,
    ):
        assert secret not in shown
    assert max(map(len, str(report).splitlines())) <= 100


async def test_a_dry_run_is_refused_as_the_import_is(db: Connection) -> None:
    await bring(db, data())
    for content in (
        {"connections": [{"client_id": CLINIC, "consumer_id": NOBODY, "redirect_uri": NEW_URI}]},
        {"connections": [{"client_id": CLINIC, "consumer_id": MIS, "redirect_uri": "http://a/"}]},
        {"users": [{"id": NOBODY, "email": "owner@clinic.example"}]},
    ):
        with pytest.raises(SnapshotError) as caught:
            await tried(db, content)
        assert await refusal(db, content) == str(caught.value)


async def test_a_dry_run_waits_for_no_row_that_stays_as_it_is(db: Connection, database_url: str) -> None:
    await bring(db, data())
    other = await asyncpg.connect(database_url)
    async with other.transaction(), asyncio.timeout(60):
        await other.execute("SELECT FROM clients FOR UPDATE")
        assert (await tried(db, data())).rows == []
    await other.close()


async def test_a_long_value_is_shown_in_lines_of_their_own() -> None:
    before, after = "https://a.example/" + "x" * 90, " ".join(["word"] * 60)
    lines = str(Change("name", before, after)).splitlines()
    assert lines[:2] == ["name:", f"  - {before}"]
    assert " ".join(line.strip(" +") for line in lines[2:]) == after
    assert max(map(len, lines[2:])) <= 94


def test_each_section_says_by_which_keys_a_row_is_known() -> None:
    for section in SECTIONS:
        assert set(section.called) <= set(section.schema["required"])


async def test_the_changes_of_an_import_have_one_operation(db: Connection) -> None:
    made = time_ordered_uuid()
    await bring(db, data(), operation_id=made)
    assert {row[0] for row in await db.fetch("SELECT operation_id FROM audit_events")} == {made}
    assert await db.fetchval("SELECT is_done FROM operations WHERE id = $1", made)
    await bring(db, data(), operation_id=time_ordered_uuid())
    assert await db.fetchval("SELECT count(*) FROM operations") == 1, "the second one has changed nothing"


async def test_an_import_whose_end_is_not_confirmed_names_its_operation(db: Connection, database_url: str) -> None:
    made = time_ordered_uuid()
    with losing(database_url) as proxy:
        through = await asyncpg.connect(proxy.url)
        proxy.lose(b"COMMIT;", Loss.CUT)
        with pytest.raises(errors.OutcomeUnknown) as unknown:
            await bring(through, data(), operation_id=made)
        through.terminate()
    assert unknown.value.operation_id == made
    assert await db.fetchval("SELECT is_done FROM operations WHERE id = $1", made)
