"""Housekeeping: what is over goes, in small batches, by one process at a time. The audit trail stays.

passwords too old ──► their people's tokens end          (PASSWORD_EXPIRATION_DAYS)
tokens over ────────► deleted a while later              (TOKEN_TTL_AFTER_EXPIRATION_DAYS)
codes over ─────────► EXPIRED, and deleted a while later (the same)
nonces over, counters whose window is over ──► deleted
"""
