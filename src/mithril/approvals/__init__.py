"""Approvals: what a user allows a client. How signing in leads to one is in `oauth`."""
