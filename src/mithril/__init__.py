"""Mithril: an OAuth 2.0 authorization server and client-connection registry that speaks the API of ESOZ."""

__version__ = "0.1.0"
