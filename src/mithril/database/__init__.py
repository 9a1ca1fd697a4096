"""PostgreSQL: the connection pool, running statements, migrations, and the embedded server."""
