"""Benchmarks of the hot paths, beside the alternatives and the limit of the database.

`make bench` runs them. The service does not import this package, and it is not installed with the service.
"""
