"""Snapshots: clients, users and what connects them as one JSON file, for import, export and the demo."""
