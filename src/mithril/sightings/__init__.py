"""Sightings: what requests have seen and no request waits for. It is written later, and some of it may be lost."""
