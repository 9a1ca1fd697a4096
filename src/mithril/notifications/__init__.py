"""Notifications: what changes with a connection or a client is told to webhooks, and to owners by e-mail."""
