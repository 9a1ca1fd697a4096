"""What was taken away: rows that the look-up of a token compares with, so that a change takes effect at once.

A revocation says what a user, a client, a client type or a role has lost: some scopes, or everything. Each of them
has the number of its last revocation, and a token has those that it was issued under: equal numbers mean that nothing
was lost since. Where they differ, `token_scope` says what is left of the token. Triggers write the revocations, so
that no way of changing a row can forget them; each takes constant time, with however many tokens.

`since` is the number from which a role was given, or gives a scope: what is given back later revives nothing. Each
number is drawn while the row that shows it is locked: so a later number is never committed first, and unseen.

Deleting a user, a client or a connection leaves most of its tokens to the cleanup, and so takes constant time too. The
migration rewrites no table: new columns have constant defaults, and those of new rows are set afterwards.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# `names`: the scopes that were lost; NULL is all, which revokes a token. A row with `user_id` and `client_id` concerns
# that user's tokens of that client. `is_of_approval`: concerns only tokens that stand on an approval. `since`: of a
# role that was taken, the number from which it gave the scopes. A row of a user, client or connection that is gone
# says that tokens of it may still be there.
REVOCATIONS = """
CREATE TABLE revocations (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id         uuid,
    client_id       uuid,
    client_type_id  uuid,
    role_id         uuid,
    connection_id   uuid,
    names           text[],
    is_of_approval  boolean     NOT NULL DEFAULT false,
    since           bigint      NOT NULL DEFAULT 0,
    inserted_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(user_id, client_id, client_type_id, role_id, connection_id) > 0)
);
CREATE INDEX revocations_user_id_id_index ON revocations (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX revocations_client_id_id_index ON revocations (client_id, id)
    WHERE user_id IS NULL AND client_id IS NOT NULL;
CREATE INDEX revocations_client_type_id_id_index ON revocations (client_type_id, id)
    WHERE client_type_id IS NOT NULL;
CREATE INDEX revocations_of_roles_index ON revocations (id) WHERE role_id IS NOT NULL;
ALTER TABLE users ADD COLUMN last_revocation bigint NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN last_revocation bigint NOT NULL DEFAULT 0,
    ADD COLUMN type_since bigint NOT NULL DEFAULT 0;
ALTER TABLE client_types ADD COLUMN last_revocation bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_role_revocation bigint NOT NULL DEFAULT 0;
ALTER TABLE roles ADD COLUMN since jsonb NOT NULL DEFAULT '{}';
ALTER TABLE user_roles ADD COLUMN since bigint NOT NULL DEFAULT 0;
ALTER TABLE user_roles ALTER COLUMN since SET DEFAULT nextval('revocations_id_seq');
ALTER TABLE global_user_roles ADD COLUMN since bigint NOT NULL DEFAULT 0;
ALTER TABLE global_user_roles ALTER COLUMN since SET DEFAULT nextval('revocations_id_seq');
ALTER TABLE tokens ADD COLUMN seen_user bigint DEFAULT 0, ADD COLUMN seen_client bigint DEFAULT 0,
    ADD COLUMN seen_type bigint DEFAULT 0, ADD COLUMN seen_role bigint DEFAULT 0,
    ADD COLUMN is_bound_by_roles boolean;
ALTER TABLE tokens ALTER COLUMN seen_user DROP DEFAULT, ALTER COLUMN seen_client DROP DEFAULT,
    ALTER COLUMN seen_type DROP DEFAULT, ALTER COLUMN seen_role DROP DEFAULT;
ALTER TABLE tokens DROP CONSTRAINT tokens_user_id_fkey, DROP CONSTRAINT tokens_client_id_fkey,
    DROP CONSTRAINT tokens_connection_id_fkey
"""

FUNCTIONS = (
    # A write that a network or a frozen machine held back does nothing when it arrives late (see `Database.write`).
    """
CREATE FUNCTION in_time(deadline double precision) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF extract(epoch FROM clock_timestamp()) > deadline THEN
        RAISE SQLSTATE '57M01' USING MESSAGE = 'the statement came after its deadline';
    END IF;
    RETURN true;
END
$$
""",
    """
CREATE FUNCTION scope_names(scope text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_remove(regexp_split_to_array(scope, '\\s+'), '')
""",
    """
CREATE FUNCTION scope_lost(before text, after text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT unnest(scope_names(before)) EXCEPT SELECT unnest(scope_names(after)))
""",
    # The number from which a role gives all that it gives.
    """
CREATE FUNCTION role_since(r roles) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN coalesce((SELECT max(value::bigint) FROM jsonb_each_text(r.since)), 0)
""",
    # What is left of the scope of a token; NULL where nothing is, or the token is revoked. Slow: asked only where
    # the numbers of a token differ from those of its user, client, type or the roles.
    """
CREATE FUNCTION token_scope(t tokens) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    given text := coalesce(
        CASE WHEN t.name IN ('authorization_code', '2fa_access_token') THEN t.details ->> 'scope_request'
             ELSE t.scope END, '');
    of_grant boolean := t.name IN ('authorization_code', 'refresh_token')
        OR coalesce(t.details ->> 'grant_type', '') IN ('authorization_code', 'refresh_token');
    type_id uuid;
    type_seen bigint;
    kept text;
BEGIN
    IF EXISTS (SELECT FROM revocations r WHERE r.user_id = t.user_id AND r.id > t.seen_user AND r.names IS NULL
                  AND (r.client_id IS NULL OR r.client_id = t.client_id))
       OR EXISTS (SELECT FROM revocations r WHERE r.client_id = t.client_id AND r.user_id IS NULL
                     AND r.id > t.seen_client AND r.names IS NULL) THEN
        RETURN NULL;
    END IF;
    SELECT c.client_type_id, greatest(t.seen_type, c.type_since) INTO type_id, type_seen
      FROM clients c WHERE c.id = t.client_id;
    SELECT string_agg(g.name, ' ' ORDER BY g.place) INTO kept
      FROM unnest(scope_names(given)) WITH ORDINALITY AS g (name, place)
     WHERE NOT EXISTS (
             SELECT FROM revocations r
              WHERE r.client_type_id = type_id AND r.client_id IS NULL AND r.id > type_seen AND g.name = ANY (r.names))
       AND NOT EXISTS (
             SELECT FROM revocations changed JOIN revocations r ON r.client_type_id = changed.client_type_id
              WHERE changed.client_id = t.client_id AND changed.client_type_id IS NOT NULL
                AND changed.id > t.seen_client AND r.client_id IS NULL AND g.name = ANY (r.names)
                AND r.id > t.seen_type AND r.id < changed.id
                AND r.id > coalesce((SELECT max(earlier.id) FROM revocations earlier
                                      WHERE earlier.client_id = t.client_id AND earlier.client_type_id IS NOT NULL
                                        AND earlier.id < changed.id), 0))
       AND NOT EXISTS (
             SELECT FROM revocations r
              WHERE r.client_id = t.client_id AND r.user_id IS NULL AND r.id > t.seen_client AND g.name = ANY (r.names))
       AND NOT (of_grant AND EXISTS (
             SELECT FROM revocations r
              WHERE r.user_id = t.user_id AND r.id > t.seen_user AND r.client_id = t.client_id AND r.is_of_approval
                AND g.name = ANY (r.names)))
       AND NOT (coalesce(t.is_bound_by_roles, of_grant) AND EXISTS (
             SELECT FROM (
                    SELECT r.id FROM revocations r
                     WHERE r.user_id = t.user_id AND r.id > t.seen_user AND NOT r.is_of_approval
                       AND (r.client_id IS NULL OR r.client_id = t.client_id) AND g.name = ANY (r.names)
                     UNION ALL
                    SELECT r.id FROM revocations r
                     WHERE r.role_id IS NOT NULL AND r.id > t.seen_role AND g.name = ANY (r.names)
                  ) lost
              WHERE NOT role_gives_since(t.user_id, t.client_id, g.name, lost.id)));
    RETURN CASE WHEN given = '' THEN '' ELSE kept END;
END
$$
""",
    # Whether another role gave the user the scope when that revocation came: one that they have since before it, or had
    # until after it.
    """
CREATE FUNCTION role_gives_since(the_user uuid, the_client uuid, the_name text, revocation bigint)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM (
           SELECT h.role_id FROM user_roles h
            WHERE h.user_id = the_user AND h.client_id = the_client AND h.since < revocation
            UNION ALL
           SELECT h.role_id FROM global_user_roles h WHERE h.user_id = the_user AND h.since < revocation
         ) held JOIN roles o ON o.id = held.role_id
     WHERE the_name = ANY (scope_names(o.scope)) AND coalesce((o.since ->> the_name)::bigint, 0) < revocation
) OR EXISTS (
    SELECT FROM revocations e
     WHERE e.user_id = the_user AND (e.client_id IS NULL OR e.client_id = the_client) AND NOT e.is_of_approval
       AND e.since < revocation AND e.id > revocation AND the_name = ANY (e.names)
) OR EXISTS (
    SELECT FROM revocations e
     WHERE e.role_id IS NOT NULL AND e.since < revocation AND e.id > revocation AND the_name = ANY (e.names)
       AND (EXISTS (SELECT FROM user_roles h WHERE h.role_id = e.role_id AND h.user_id = the_user
                       AND h.client_id = the_client AND h.since < revocation)
            OR EXISTS (SELECT FROM global_user_roles h WHERE h.role_id = e.role_id AND h.user_id = the_user
                          AND h.since < revocation))
)
""",
    # The numbers of a token whose maker does not name them, as of now.
    """
CREATE FUNCTION tokens_see_revocations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.seen_user := coalesce(NEW.seen_user, (SELECT last_revocation FROM users WHERE id = NEW.user_id), 0);
    NEW.seen_client := coalesce(NEW.seen_client, (SELECT last_revocation FROM clients WHERE id = NEW.client_id), 0);
    SELECT coalesce(NEW.seen_type, ct.last_revocation), coalesce(NEW.seen_role, ct.last_role_revocation)
      INTO NEW.seen_type, NEW.seen_role
      FROM clients c JOIN client_types ct ON ct.id = c.client_type_id WHERE c.id = NEW.client_id;
    NEW.is_bound_by_roles := coalesce(NEW.is_bound_by_roles,
        EXISTS (SELECT FROM user_roles WHERE user_id = NEW.user_id AND client_id = NEW.client_id)
        OR EXISTS (SELECT FROM global_user_roles WHERE user_id = NEW.user_id));
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER tokens_see_revocations BEFORE INSERT ON tokens
    FOR EACH ROW WHEN (NEW.seen_user IS NULL OR NEW.seen_client IS NULL OR NEW.seen_type IS NULL
                       OR NEW.seen_role IS NULL OR NEW.is_bound_by_roles IS NULL)
    EXECUTE FUNCTION tokens_see_revocations()
""",
    # What the foreign keys said, without deleting very many tokens in one statement.
    """
CREATE FUNCTION tokens_have_owners() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    missing text := CASE
        WHEN NOT EXISTS (SELECT FROM users WHERE id = NEW.user_id FOR KEY SHARE) THEN 'user'
        WHEN NOT EXISTS (SELECT FROM clients WHERE id = NEW.client_id FOR KEY SHARE) THEN 'client'
        WHEN NEW.connection_id IS NOT NULL
             AND NOT EXISTS (SELECT FROM connections WHERE id = NEW.connection_id FOR KEY SHARE) THEN 'connection'
    END;
BEGIN
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the % does not exist', missing USING ERRCODE = 'foreign_key_violation', TABLE = 'tokens',
            CONSTRAINT = format('tokens_%s_id_fkey', missing);
    END IF;
    RETURN NULL;
END
$$
""",
    """
CREATE TRIGGER tokens_have_owners AFTER INSERT OR UPDATE OF user_id, client_id, connection_id ON tokens
    FOR EACH ROW EXECUTE FUNCTION tokens_have_owners()
""",
    # A token whose user, client or connection is gone is unknown, whether or not its row is still there: the first
    # thousand are deleted at once, the others by the cleanup, which finds them by the rows that are added here.
    """
CREATE FUNCTION tokens_lose_owners() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM tokens WHERE id IN (
        SELECT t.id FROM deleted d JOIN tokens t ON t.%1$I = d.id LIMIT 1000)', TG_ARGV[0]);
    EXECUTE format('INSERT INTO revocations (%1$I) SELECT d.id FROM deleted d
        WHERE EXISTS (SELECT FROM tokens t WHERE t.%1$I = d.id)', TG_ARGV[0]);
    RETURN NULL;
END
$$
""",
    *(
        f"""
CREATE TRIGGER tokens_lose_{noun} AFTER DELETE ON {noun}s REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION tokens_lose_owners('{noun}_id')
"""
        for noun in ("user", "client", "connection")
    ),
    # A user or client that is added under the id of one that is gone must not revive what is left of its tokens.
    """
CREATE FUNCTION begin_after_revocations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.last_revocation := greatest(NEW.last_revocation, (
        SELECT max(id) FROM revocations WHERE user_id = NEW.id OR (client_id = NEW.id AND user_id IS NULL)));
    RETURN NEW;
END
$$
""",
    *(
        f"""
CREATE TRIGGER {table}_begin BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION begin_after_revocations()
"""
        for table in ("users", "clients")
    ),
    # The same of a connection, whose tokens have no number of it.
    """
CREATE FUNCTION connections_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM revocations WHERE connection_id = NEW.id) THEN
        RAISE EXCEPTION 'the tokens of a connection of this id are still to be deleted'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'connections_tokens_of_deleted';
    END IF;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER connections_begin BEFORE INSERT ON connections FOR EACH ROW EXECUTE FUNCTION connections_begin()
""",
    # The user is marked first: revocations of one user come one after the other, with growing numbers.
    """
CREATE FUNCTION revoke_of_user(
    the_user uuid, the_client uuid, the_names text[] DEFAULT NULL, of_approval boolean DEFAULT false,
    given_since bigint DEFAULT 0
) RETURNS void LANGUAGE sql
BEGIN ATOMIC
WITH marked AS (
    UPDATE users SET last_revocation = nextval('revocations_id_seq') WHERE id = the_user RETURNING last_revocation
)
INSERT INTO revocations (id, user_id, client_id, names, is_of_approval, since) OVERRIDING SYSTEM VALUE
SELECT last_revocation, the_user, the_client, the_names, of_approval, given_since FROM marked;
END
""",
    # A user who is blocked or unblocked: unblocking must not bring back what was given meanwhile.
    """
CREATE FUNCTION users_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revocations (user_id) VALUES (NEW.id) RETURNING id INTO NEW.last_revocation;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER users_revoke BEFORE UPDATE OF is_blocked ON users
    FOR EACH ROW WHEN (OLD.is_blocked <> NEW.is_blocked) EXECUTE FUNCTION users_revoke()
""",
    """
CREATE FUNCTION clients_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.is_blocked <> NEW.is_blocked THEN
        INSERT INTO revocations (client_id) VALUES (NEW.id) RETURNING id INTO NEW.last_revocation;
    END IF;
    IF OLD.client_type_id <> NEW.client_type_id THEN
        -- The type before is noted: what it had lost itself stays lost.
        INSERT INTO revocations (client_id, client_type_id, names)
        SELECT NEW.id, OLD.client_type_id, scope_lost(a.scope, b.scope)
          FROM client_types a, client_types b WHERE a.id = OLD.client_type_id AND b.id = NEW.client_type_id
        RETURNING id INTO NEW.type_since;
        NEW.type_since := coalesce(NEW.type_since, OLD.type_since);  -- no such type: its foreign key says so
        NEW.last_revocation := greatest(NEW.last_revocation, NEW.type_since);
    END IF;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER clients_revoke BEFORE UPDATE OF is_blocked, client_type_id ON clients
    FOR EACH ROW WHEN (OLD.is_blocked <> NEW.is_blocked OR OLD.client_type_id <> NEW.client_type_id)
    EXECUTE FUNCTION clients_revoke()
""",
    """
CREATE FUNCTION client_types_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lost text[] := scope_lost(OLD.scope, NEW.scope);
BEGIN
    IF lost <> '{}' THEN
        INSERT INTO revocations (client_type_id, names) VALUES (NEW.id, lost) RETURNING id INTO NEW.last_revocation;
    END IF;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER client_types_revoke BEFORE UPDATE OF scope ON client_types
    FOR EACH ROW WHEN (OLD.scope <> NEW.scope) EXECUTE FUNCTION client_types_revoke()
""",
    # The number of the roles is the same for every type: it is there because the look-up reads the type anyway. The
    # lock keeps a new type, and another change of roles, waiting while the number grows.
    """
CREATE FUNCTION client_types_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(6480317553);
    NEW.last_role_revocation := coalesce((SELECT max(last_role_revocation) FROM client_types), 0);
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER client_types_begin BEFORE INSERT ON client_types FOR EACH ROW EXECUTE FUNCTION client_types_begin()
""",
    """
CREATE FUNCTION roles_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lost text[] := scope_lost(OLD.scope, CASE WHEN TG_OP = 'UPDATE' THEN NEW.scope ELSE '' END);
    revocation bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(6480317553);
    IF lost <> '{}' THEN
        INSERT INTO revocations (role_id, names, since) VALUES (OLD.id, lost, role_since(OLD))
        RETURNING id INTO revocation;
        UPDATE client_types SET last_role_revocation = revocation;
    END IF;
    IF TG_OP = 'DELETE' THEN
        -- Each user loses the role by a revocation of their own, unless there are very many.
        DELETE FROM user_roles WHERE role_id = OLD.id AND (SELECT count(*) FROM (
            SELECT FROM user_roles WHERE role_id = OLD.id LIMIT 1001) few) <= 1000;
        DELETE FROM global_user_roles WHERE role_id = OLD.id AND (SELECT count(*) FROM (
            SELECT FROM global_user_roles WHERE role_id = OLD.id LIMIT 1001) few) <= 1000;
        RETURN OLD;
    END IF;
    NEW.since := NEW.since || coalesce((
        SELECT jsonb_object_agg(name, nextval('revocations_id_seq'))
          FROM unnest(scope_lost(NEW.scope, OLD.scope)) AS gained (name)), '{}');
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER roles_revoke BEFORE UPDATE OF scope ON roles
    FOR EACH ROW WHEN (OLD.scope <> NEW.scope) EXECUTE FUNCTION roles_revoke()
""",
    """
CREATE TRIGGER roles_revoke_deleted BEFORE DELETE ON roles FOR EACH ROW EXECUTE FUNCTION roles_revoke()
""",
    # A row that says another user, role or client than before counts as taken and given. Where the role itself goes,
    # its own revocation says it all.
    """
CREATE FUNCTION user_roles_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    its_client uuid := to_jsonb(OLD) ->> 'client_id';
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.user_id, OLD.role_id, its_client)
            IS NOT DISTINCT FROM (NEW.user_id, NEW.role_id, (to_jsonb(NEW) ->> 'client_id')::uuid) THEN
        RETURN NEW;
    END IF;
    PERFORM revoke_of_user(OLD.user_id, its_client, scope_names(r.scope),
                           given_since => greatest(OLD.since, role_since(r)))
       FROM roles r WHERE r.id = OLD.role_id;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.since := nextval('revocations_id_seq');
    RETURN NEW;
END
$$
""",
    *(
        f"""
CREATE TRIGGER {table}_revoke BEFORE DELETE OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION user_roles_revoke()
"""
        for table in ("user_roles", "global_user_roles")
    ),
    # An approval that is narrowed, withdrawn, or given to another user or client.
    """
CREATE FUNCTION apps_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lost text[];
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.client_id = NEW.client_id AND OLD.user_id = NEW.user_id THEN
        lost := scope_lost(OLD.scope, NEW.scope);
    END IF;
    IF lost IS NULL OR lost <> '{}' THEN
        PERFORM revoke_of_user(OLD.user_id, OLD.client_id, lost, of_approval => lost IS NOT NULL);
    END IF;
    RETURN NULL;
END
$$
""",
    """
CREATE TRIGGER apps_revoke AFTER DELETE OR UPDATE OF scope, client_id, user_id ON apps
    FOR EACH ROW EXECUTE FUNCTION apps_revoke()
""",
)


def upgrade() -> None:
    """Makes the table, the columns and the triggers."""
    for statement in filter(str.strip, REVOCATIONS.split(";\n")):
        op.execute(statement)
    for statement in FUNCTIONS:
        op.execute(statement)


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
