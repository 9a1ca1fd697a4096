"""Partitions of the audit trail: the table so far is the first, each later month has one, and one takes the rest.

The table is neither read nor rewritten while it is locked: `mithril migrate` has built the index and the constraint
before (`database.partitions`), while writes go on. The name of the constraint, and of the first partition, says which
month is its last. A process of an older release writes to the same name as before.

Partitions have no rights of their own, only the trail has, with those that were granted before. Who asks for the
partitions of the next months needs no right to create tables: the function has those of the owner, takes no argument,
and locks nothing while no month is missing.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# In a new database the table is empty.
PREPARE = """
DO $$
DECLARE
    soon timestamp := (now() + interval '14 days') AT TIME ZONE 'UTC';
BEGIN
    LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM audit_events) THEN
        CREATE UNIQUE INDEX IF NOT EXISTS audit_events_id_occurred_at_index ON audit_events (id, occurred_at);
        EXECUTE format('ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS %1$I,
                        ADD CONSTRAINT %1$I CHECK (occurred_at < %2$L)', to_char(soon, '"audit_events_to_"YYYY_MM'),
                       (date_trunc('month', soon) + interval '1 month') AT TIME ZONE 'UTC');
    ELSIF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'audit_events'::regclass AND convalidated
                         AND conname LIKE 'audit_events_to_%') THEN
        RAISE 'the trail is being prepared by another process' USING ERRCODE = 'lock_not_available';
    END IF;
END
$$
"""
PARTITION = """
DO $$
DECLARE
    part text := (SELECT conname FROM pg_constraint WHERE conrelid = 'audit_events'::regclass AND convalidated
                     AND conname LIKE 'audit_events_to_%');
    ends timestamptz := (to_date(right(part, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC';
    numbers record;
    own record;
BEGIN
    SELECT last_value, is_called INTO numbers FROM audit_events_id_seq;
    EXECUTE format('ALTER TABLE audit_events RENAME TO %I', part);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN id DROP IDENTITY, DROP CONSTRAINT audit_events_pkey', part);
    EXECUTE format('ALTER TABLE %1$I ADD CONSTRAINT %2$I PRIMARY KEY USING INDEX audit_events_id_occurred_at_index',
                   part, part || '_pkey');
    FOR own IN SELECT name FROM unnest(ARRAY['subject_id', 'client_id', 'actor_user_id']) name LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', 'audit_events_' || own.name || '_id_index',
                       part || '_' || own.name || '_id_index');
    END LOOP;
    DROP INDEX audit_events_occurred_at_index;

    EXECUTE format('CREATE TABLE audit_events (LIKE %I INCLUDING DEFAULTS, PRIMARY KEY (id, occurred_at))
                    PARTITION BY RANGE (occurred_at)', part);
    ALTER TABLE audit_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
    PERFORM setval('audit_events_id_seq', numbers.last_value, numbers.is_called);
    CREATE INDEX audit_events_subject_id_id_index ON audit_events (subject_id, id);
    CREATE INDEX audit_events_client_id_id_index ON audit_events (client_id, id) WHERE client_id IS NOT NULL;
    CREATE INDEX audit_events_actor_user_id_id_index ON audit_events (actor_user_id, id)
        WHERE actor_user_id IS NOT NULL;
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', part, ends);
    EXECUTE format('ALTER TABLE %1$I DROP CONSTRAINT %1$I', part);
    CREATE TABLE audit_events_default PARTITION OF audit_events DEFAULT;
    -- A trigger of the trail does not see what names a partition.
    CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
        FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grow();
    CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events_default
        FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grow();

    FOR own IN SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type
                 FROM pg_class, aclexplode(relacl) WHERE oid = part::regclass AND grantee <> relowner LOOP
        EXECUTE format('GRANT %s ON audit_events TO %s', own.privilege_type, own.role);
        EXECUTE format('REVOKE %s ON %I FROM %s', own.privilege_type, part, own.role);
    END LOOP;
END
$$
"""
# The partition is attached, not created in its place: that locks no writer out of the trail.
MAKE = """
CREATE FUNCTION audit_events_make_partitions() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    month timestamp;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(6480317553);
    FOR ahead IN 0..3 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead);
        part := to_char(month, '"audit_events_"YYYY_MM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL OR EXISTS (
            SELECT FROM pg_inherits JOIN pg_class p ON p.oid = inhrelid
             WHERE inhparent = 'audit_events'::regclass AND relname LIKE 'audit_events_to_%'
               AND right(relname, 7) >= to_char(month, 'YYYY_MM')
        ) OR EXISTS (
            SELECT FROM audit_events_default WHERE occurred_at >= month AT TIME ZONE 'UTC'
               AND occurred_at < (month + interval '1 month') AT TIME ZONE 'UTC'
        );
        EXECUTE format('CREATE TABLE %I (LIKE audit_events)', part);
        EXECUTE format('CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grow()', part);
        EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part,
                       month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$
"""


def upgrade() -> None:
    """Makes the table a partition of a new one with its name."""
    for statement in (PREPARE, PARTITION):
        op.execute(statement)
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar()
    op.execute(MAKE.format(schema=schema))
    op.execute("SELECT audit_events_make_partitions()")


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
