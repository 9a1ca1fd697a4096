"""The processes and sockets of `mithril serve`: workers, their supervisor, and HTTP connections."""
