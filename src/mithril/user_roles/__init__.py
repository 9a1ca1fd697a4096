"""Roles: what a person may do, in one client or everywhere."""
