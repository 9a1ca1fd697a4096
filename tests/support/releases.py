"""Dumps of released schemas with data, from which every later version must be able to upgrade.

Run by `make dump`, this writes the dump of the version that is checked out. What is made of chance or of the clock is
replaced, so that the same version gives the same dump.
"""

import asyncio
import itertools
import re
import subprocess
import tempfile
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import argon2
import asyncpg

import mithril
from mithril import security
from mithril.audit.events import Actor
from mithril.connections.redirect_uris import Policy
from mithril.database import database, embedded
from mithril.snapshots import service as snapshots
from support import plans

FOLDER = Path(__file__).parents[1] / "storage" / "releases"
DEMO = Path(snapshots.__file__).parent / "demo.json"
DAY = "2026-11-29"  # the moment of the dump, to which all others keep their distance
MOMENT_IN_JSON = re.compile(r"\b\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|\+00:00)")
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

# What `plans.FILL` has not: one token of each other kind, used and open, and one-time passwords in each other status.
MORE = """
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, family_id, scope, details, used_at, expires_at)
SELECT name, sha256((name || n)::bytea), md5('u' || n)::uuid, md5('c' || n)::uuid, md5('k' || n)::uuid,
       md5('f' || n)::uuid, 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}',
       CASE n WHEN 1 THEN now() END, now() + interval '5 minutes'
  FROM numbers, unnest('{authorization_code,2fa_access_token,change_password_token}'::text[]) name;
INSERT INTO otp (key, code_digest, code_expired_at, status, active, attempts_count)
SELECT status, 'code', now(), status, false, 1
  FROM unnest('{UNVERIFIED,CANCELED,EXPIRED,COMPLETED}'::text[]) status;
UPDATE users SET is_blocked = true, block_reason = 'an incident', otp_error_count = 3 WHERE email = '1@example.com';
UPDATE nonces SET used_at = now() WHERE client_id = md5('c1')::uuid;
INSERT INTO audit_events (action, subject_id, api_key_client_id, request_id, network_address, old, new)
VALUES ('client.update', md5('c1')::uuid, md5('c2')::uuid, 'a-request-id-of-20-chars', '192.0.2.1',
        '{"is_blocked": false}', '{"is_blocked": true}');
"""
MOMENTS = """
SELECT format('UPDATE %I SET %I = date_trunc(''minute'', %2$I - now() + interval ''30 s'') + timestamptz %L',
              table_name, column_name, $1::text || ' 00:00Z')
  FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
 WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone'
   AND NOT (SELECT relispartition FROM pg_class WHERE oid = table_name::regclass)
 ORDER BY table_name, ordinal_position
"""


class _Hasher(argon2.PasswordHasher):
    """Hashes passwords quickly, and each always to the same hash."""

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        return super().hash(password, salt=salt or b"salt of the dump")


def dump(url: str, *options: str) -> str:
    """What pg_dump writes, less the comments and what a psql of that version reads."""
    command = [str(embedded.postgres_bin() / "pg_dump"), "--no-owner", "--no-privileges", *options, f"--dbname={url}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    kept = [line for line in lines if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]
    return "\n".join(kept) + "\n"


async def fill(url: str) -> None:
    """Adds the demo data, and a few rows to every table."""
    security._PASSWORDS = _Hasher(time_cost=1, memory_cost=8, parallelism=1)
    db = await asyncpg.connect(url)
    policy = Policy(allow_loopback=True)
    await snapshots.import_snapshot(db, snapshots.demo(), actor=Actor(request_id="import"), policy=policy)
    await plans.fill_tables(db, rows=4)
    await db.execute(MORE)
    async with db.transaction():
        for row in await db.fetch(MOMENTS, DAY):
            await db.execute(row[0])
    await db.close()


def without_chance(text: str) -> str:
    """The dump with each id that is not in the demo data replaced by one that depends on its place only.

    Moments within JSON, which are no columns, all become the same.
    """
    given = set(UUID.findall(DEMO.read_text()))
    numbers = itertools.count(1)
    made = {found: str(uuid5(NAMESPACE_URL, str(next(numbers)))) for found in dict.fromkeys(UUID.findall(text))}
    text = MOMENT_IN_JSON.sub(f"{DAY}T00:00:00+00:00", text)
    return UUID.sub(lambda found: found[0] if found[0] in given else made[found[0]], text)


def main() -> None:
    """Writes the dump of this version."""
    with tempfile.TemporaryDirectory() as home, embedded.running(Path(home)) as url:
        asyncio.run(database.migrate(url))
        asyncio.run(fill(url))
        file = FOLDER / f"{mithril.__version__}.sql"
        file.write_text(without_chance(dump(url, "--inserts")))
    print(f"{file.name}: {file.stat().st_size} bytes")  # noqa: T201 -- a command


if __name__ == "__main__":
    main()
