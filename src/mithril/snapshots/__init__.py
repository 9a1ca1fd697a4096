"""Snapshots: clients, people and what joins them as one JSON file, for import, export and the demo."""
