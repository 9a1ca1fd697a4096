"""Tokens: what the programs and browsers of users present."""
