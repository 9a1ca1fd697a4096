"""Probes for liveness and readiness, and metrics."""
