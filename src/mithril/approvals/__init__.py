"""Approvals: what a person has consented to for a client. How one comes of signing in is in `oauth`."""
