"""How fast the hot paths are, beside what one would pick instead and beside the database's own limit.

`make bench` runs it. Nothing of the service imports this, and nothing here is installed with the service.
"""
