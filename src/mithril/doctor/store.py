"""The SQL of the doctor: the settings and the statistics of PostgreSQL. Each statement only reads, as any role may."""

SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS number,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
       - coalesce(current_setting('reserved_connections', true), '0')::integer AS max_connections,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers, rolconnlimit AS role_limit,
       datconnlimit AS database_limit, rolname AS role, rolsuper AS is_superuser, age(datfrozenxid) AS transactions,
       pg_encoding_to_char(encoding) AS encoding, datctype AS locale,
       datlocprovider = 'c' AND datctype IN ('C', 'POSIX') AS folds_ascii_only, pg_database_size(datname) AS bytes,
       extract(epoch FROM clock_timestamp())::float8 AS clock,
       (SELECT greatest(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
          FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
       ) AS oldest_seconds
  FROM pg_catalog.pg_roles, pg_catalog.pg_database WHERE rolname = current_user AND datname = current_database()
"""
STANDBYS = """
SELECT coalesce(application_name, '') AS name, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS bytes_behind,
       extract(epoch FROM replay_lag)::float8 AS seconds_behind
  FROM pg_catalog.pg_stat_replication ORDER BY 1
"""
SLOTS = """
SELECT slot_name AS name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS kept_bytes
  FROM pg_catalog.pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL ORDER BY 1
"""
ARCHIVER = """
SELECT last_failed_wal, current_setting('archive_mode') <> 'off' AS is_on,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS is_failing
  FROM pg_catalog.pg_stat_archiver
"""
# Rows of the trail are added and read, and never changed, and only through it: its partitions have no rights.
PRIVILEGES = """
SELECT relname AS name, string_agg(privilege, ', ') AS missing
  FROM pg_catalog.pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
 WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace(current_schema()) AND relname <> 'alembic_version'
   AND NOT relispartition AND NOT (relname = 'audit_events' AND privilege IN ('UPDATE', 'DELETE'))
   AND NOT has_table_privilege(oid, privilege)
 GROUP BY 1 ORDER BY 1
"""
TABLES = """
SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, pg_total_relation_size(relid) AS bytes,
       pg_indexes_size(relid) AS index_bytes, coalesce(last_analyze, last_autoanalyze) IS NOT NULL AS is_analyzed
  FROM pg_catalog.pg_stat_user_tables WHERE schemaname = current_schema() ORDER BY bytes DESC
"""
OVERDUE = "SELECT extract(epoch FROM clock_timestamp() - min(settled_at))::float8 FROM operations"
