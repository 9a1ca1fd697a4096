"""The processes and sockets of `mithril serve`: the supervisor, its workers, and their HTTP connections."""
