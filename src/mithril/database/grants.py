"""The SQL that makes two roles: one owns the tables and migrates, the other one serves, and may neither.

The second one reads and writes rows, but those of the audit trail it only adds and reads. All is one statement, which
may be run again: after each migration it gives the rights on new tables, then also by the owner.
"""

LONGEST_NAME_BYTES = 63
SCRIPT = """\
DO {tag}
DECLARE
    the_schema constant oid := quote_ident(current_schema())::regnamespace;
    the_owner oid;
    it record;
BEGIN
    -- The roles, once. A password: ALTER ROLE ... PASSWORD, or \\password in psql.
    FOR it IN SELECT name FROM unnest(ARRAY[{owner_text}, {role_text}]) AS name
               WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) LOOP
        EXECUTE format('CREATE ROLE %I LOGIN', it.name);
    END LOOP;
    SELECT oid INTO the_owner FROM pg_roles WHERE rolname = {owner_text};
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        -- What is there already belongs to the owner; sequences and indexes follow their tables.
        FOR it IN SELECT oid::regclass AS name FROM pg_class
                   WHERE relnamespace = the_schema AND relkind IN ('r', 'p')
                     AND relowner <> the_owner LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO {owner}', it.name);
        END LOOP;
        FOR it IN SELECT oid::regprocedure AS name FROM pg_proc p
                   WHERE pronamespace = the_schema AND proowner <> the_owner
                     AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e') LOOP
            EXECUTE format('ALTER FUNCTION %s OWNER TO {owner}', it.name);
        END LOOP;
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', current_database());
        EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO {owner}', current_database());
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, {role}', current_schema());
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO {owner}', current_schema());
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema());
    ELSIF current_user <> {owner_text} THEN
        RAISE EXCEPTION 'run this as a superuser; after a migration the owner may run it too';
    END IF;
    -- Partitions of the audit trail have no rights of their own.
    FOR it IN SELECT oid::regclass AS name, relispartition AS is_part, CASE relname
                     WHEN 'audit_events' THEN 'SELECT, INSERT' WHEN 'alembic_version' THEN 'SELECT'
                     ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
                FROM pg_class
               WHERE relnamespace = the_schema AND relkind IN ('r', 'p') LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, {role}', it.name);
        IF NOT it.is_part THEN
            EXECUTE format('GRANT %s ON %s TO {role}', it.rights, it.name);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO {role}', current_schema());
END
{tag};
"""


def script(role: str, owner: str) -> str:
    """Return the SQL for a serving role and an owning role of these names, which may be any. Raises ValueError."""
    for name in (role, owner):
        if not 0 < len(name.encode()) <= LONGEST_NAME_BYTES or "\0" in name:
            raise ValueError(name)
    tag = "$grants$"
    while tag in role + owner:
        tag = f"{tag[:-1]}_$"
    return SCRIPT.format(
        tag=tag,
        role=_in_text(_identifier(role)),
        owner=_in_text(_identifier(owner)),
        role_text=_text(role),
        owner_text=_text(owner),
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _in_text(identifier: str) -> str:
    """Return the identifier as it stands in a literal that `format` reads."""
    return identifier.replace("'", "''").replace("%", "%%")


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
