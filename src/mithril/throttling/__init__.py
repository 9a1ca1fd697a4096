"""Attempts that were refused, counted so that nobody goes on guessing."""
