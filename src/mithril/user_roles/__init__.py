"""Roles of users: in one client, or in every client."""
