"""The tables of the service, and the one view that changes a connection."""
