"""The whole schema: clients, connections, users, roles, approvals, tokens and the audit trail.

It covers every method of the API, so that later methods add code and not migrations that rewrite tables:

- secrets, token values, codes and one-time passwords are stored as digests (`bytea`), never as text;
- all times are `timestamptz`; expiry is a time, not a number of seconds;
- every foreign key says what happens on deletion, and has an index on the referencing side;
- invariants are constraints: one connection per client and consumer, known access types, redirect URIs that are not
  empty, an audit trail that only grows.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

USERS = """
CREATE TABLE users (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email            text        NOT NULL CHECK (email = lower(email) AND email <> ''),
    password_hash    text,
    password_set_at  timestamptz NOT NULL DEFAULT now(),
    tax_id           text        NOT NULL DEFAULT '',
    person_id        text        NOT NULL DEFAULT '',
    settings         jsonb       NOT NULL DEFAULT '{}',
    priv_settings    jsonb       NOT NULL DEFAULT '{}',
    otp_error_count  integer     NOT NULL DEFAULT 0,
    is_blocked       boolean     NOT NULL DEFAULT false,
    block_reason     text,
    inserted_at      timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_index ON users (email);
CREATE INDEX users_inserted_at_id_index ON users (inserted_at, id);
CREATE INDEX users_tax_id_index ON users (tax_id) WHERE tax_id <> '';
CREATE INDEX users_password_set_at_id_index ON users (password_set_at, id);

CREATE TABLE password_hstr (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id        uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    password_hash  text        NOT NULL,
    inserted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX password_hstr_user_id_index ON password_hstr (user_id, id);

CREATE TABLE authentication_factors (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    type         text        NOT NULL CHECK (type IN ('SMS')),
    factor       text,
    is_active    boolean     NOT NULL DEFAULT true,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT authentication_factors_user_id_type_index UNIQUE (user_id, type)
);

CREATE TABLE otp (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key              text        NOT NULL,
    code_digest      bytea       NOT NULL,
    code_expired_at  timestamptz NOT NULL,
    status           text        NOT NULL
        CHECK (status IN ('NEW', 'VERIFIED', 'UNVERIFIED', 'CANCELED', 'EXPIRED', 'COMPLETED')),
    active           boolean     NOT NULL DEFAULT true,
    attempts_count   integer     NOT NULL DEFAULT 0,
    inserted_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX otp_key_index ON otp (key, inserted_at DESC);
CREATE INDEX otp_inserted_at_id_index ON otp (inserted_at, id);
CREATE INDEX otp_code_expired_at_index ON otp (code_expired_at) WHERE active;
"""

CLIENTS = """
CREATE TABLE client_types (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text        NOT NULL CHECK (name <> ''),
    scope        text        NOT NULL,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX client_types_name_index ON client_types (name);
CREATE INDEX client_types_inserted_at_id_index ON client_types (inserted_at, id);

CREATE TABLE clients (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name            text        NOT NULL CHECK (name <> ''),
    settings        jsonb       NOT NULL DEFAULT '{}',
    priv_settings   jsonb       NOT NULL DEFAULT '{"access_type": "BROKER"}'
        CHECK (priv_settings ->> 'access_type' IN ('DIRECT', 'BROKER')),
    user_id         uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    client_type_id  uuid        NOT NULL REFERENCES client_types ON DELETE RESTRICT,
    is_blocked      boolean     NOT NULL DEFAULT false,
    block_reason    text,
    inserted_at     timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX clients_user_id_index ON clients (user_id);
CREATE INDEX clients_client_type_id_index ON clients (client_type_id);
CREATE INDEX clients_inserted_at_id_index ON clients (inserted_at, id);

-- One row joins a client to the consumer through which its users work. `previous_secret_*` is the secret that a
-- rotation replaced; it stays valid until it expires.
CREATE TABLE connections (
    id                          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    client_id                   uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    consumer_id                 uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    redirect_uri                text        NOT NULL CHECK (redirect_uri <> ''),
    secret_digest               bytea       NOT NULL,
    secret_tail                 text        NOT NULL,
    previous_secret_digest      bytea,
    previous_secret_expires_at  timestamptz,
    version                     bigint      NOT NULL DEFAULT 1,
    inserted_at                 timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT connections_client_id_consumer_id_index UNIQUE (client_id, consumer_id),
    CHECK ((previous_secret_digest IS NULL) = (previous_secret_expires_at IS NULL))
-- A change of `redirect_uri` changes no index when the page has room for the new row (a "HOT update").
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX connections_secret_index ON connections (secret_digest);
CREATE UNIQUE INDEX connections_previous_secret_index ON connections (previous_secret_digest)
    WHERE previous_secret_digest IS NOT NULL;
CREATE INDEX connections_consumer_id_index ON connections (consumer_id);
CREATE INDEX connections_client_id_inserted_at_id_index ON connections (client_id, inserted_at, id);
"""

ROLES = """
CREATE TABLE roles (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text        NOT NULL CHECK (name <> ''),
    scope        text        NOT NULL,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX roles_name_index ON roles (name);
CREATE INDEX roles_inserted_at_id_index ON roles (inserted_at, id);

CREATE TABLE user_roles (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    role_id      uuid        NOT NULL REFERENCES roles ON DELETE CASCADE,
    client_id    uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_roles_user_id_role_id_client_id_index UNIQUE (user_id, role_id, client_id)
);
CREATE INDEX user_roles_user_id_client_id_index ON user_roles (user_id, client_id);
CREATE INDEX user_roles_client_id_index ON user_roles (client_id);
CREATE INDEX user_roles_role_id_index ON user_roles (role_id);

CREATE TABLE global_user_roles (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    role_id      uuid        NOT NULL REFERENCES roles ON DELETE CASCADE,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT global_user_roles_user_id_role_id_index UNIQUE (user_id, role_id)
);
CREATE INDEX global_user_roles_role_id_index ON global_user_roles (role_id);
"""

TOKENS = """
-- Approvals: the scope that a user has approved for one client.
CREATE TABLE apps (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    client_id    uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    scope        text        NOT NULL,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT apps_user_id_client_id_index UNIQUE (user_id, client_id)
);
CREATE INDEX apps_client_id_index ON apps (client_id);
CREATE INDEX apps_inserted_at_id_index ON apps (inserted_at, id);

-- `connection_id`: the connection through which a token was issued; deleting it deletes the token. `family_id`: joins
-- all tokens of one grant, so that reuse of a code or of a rotated refresh token revokes them all.
-- `client_id` and `scope` are columns because every request reads them; `details` holds the rest.
CREATE TABLE tokens (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name           text        NOT NULL CHECK (name <> ''),
    digest         bytea       NOT NULL,
    user_id        uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    client_id      uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    connection_id  uuid                 REFERENCES connections ON DELETE CASCADE,
    family_id      uuid,
    scope          text,
    details        jsonb       NOT NULL DEFAULT '{}',
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,
    inserted_at    timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX tokens_digest_index ON tokens (digest);
CREATE INDEX tokens_user_id_client_id_index ON tokens (user_id, client_id);
CREATE INDEX tokens_client_id_index ON tokens (client_id);
CREATE INDEX tokens_connection_id_index ON tokens (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX tokens_family_id_index ON tokens (family_id) WHERE family_id IS NOT NULL;
CREATE INDEX tokens_expires_at_index ON tokens (expires_at);
CREATE INDEX tokens_inserted_at_id_index ON tokens (inserted_at, id);

CREATE TABLE nonces (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    client_id    uuid        NOT NULL REFERENCES clients ON DELETE CASCADE,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    inserted_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX nonces_client_id_index ON nonces (client_id);
CREATE INDEX nonces_expires_at_index ON nonces (expires_at);
"""

# No foreign keys: an audit row outlives its subject. The identity column gives the order: the statement that writes
# an audit row holds the lock on the row that it changes.
AUDIT = """
CREATE TABLE audit_events (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    action             text        NOT NULL,
    subject_id         uuid        NOT NULL,
    client_id          uuid,
    actor_user_id      uuid,
    actor_client_id    uuid,
    api_key_client_id  uuid,
    request_id         text,
    network_address    text,
    old                jsonb,
    new                jsonb
);
CREATE INDEX audit_events_subject_id_id_index ON audit_events (subject_id, id);
CREATE INDEX audit_events_client_id_id_index ON audit_events (client_id, id) WHERE client_id IS NOT NULL;
CREATE INDEX audit_events_actor_user_id_id_index ON audit_events (actor_user_id, id)
    WHERE actor_user_id IS NOT NULL;
CREATE INDEX audit_events_occurred_at_index ON audit_events USING brin (occurred_at);

CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grow();
"""

ONLY_GROW = """
CREATE FUNCTION audit_events_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(ONLY_GROW)
    for group in (USERS, CLIENTS, ROLES, TOKENS, AUDIT):
        for statement in filter(str.strip, group.split(";\n")):  # asyncpg takes one statement at a time
            op.execute(statement)


def downgrade() -> None:
    """Raise NotImplementedError: there is nothing before the first schema."""
    raise NotImplementedError("there is nothing before the first schema")
