"""Connections: what joins a client to the consumer through which its users work."""
