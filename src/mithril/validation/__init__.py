"""Checks of what callers send, by JSON Schemas and further rules. Nothing here knows a request.

There are two wordings, as in the system whose API this is: `bodies` for the methods below `/api`, `fields` for
administration and the grants. Which schemas there are is said in each noun's `fields`.
"""
