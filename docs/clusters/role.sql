-- The time limits of the role that serves, by a superuser. `mithril migrate --print-grants` prints the SQL that makes it, and
-- the role that owns the tables; that runs first, in the database `mithril`.

-- Where a machine of the service is lost inside a transaction, its row locks end after these, and not after two hours.
ALTER ROLE mithril SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE mithril SET tcp_keepalives_idle = 5;
ALTER ROLE mithril SET tcp_keepalives_interval = 2;
ALTER ROLE mithril SET tcp_keepalives_count = 3;
ALTER ROLE mithril SET tcp_user_timeout = '10s';

-- As MITHRIL_LOCK_TIMEOUT, for a pooler that ignores what the service asks for.
ALTER ROLE mithril SET lock_timeout = '250ms';
