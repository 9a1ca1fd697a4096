"""Cleanup of expired rows, in small batches, by one process at a time. Rows of the audit trail stay.

revocation ───────────────► what is left of the tokens that it concerns is stored
expired password ─────────► the user's tokens expire      (PASSWORD_EXPIRATION_DAYS)
expired token ────────────► deleted some days later       (TOKEN_TTL_AFTER_EXPIRATION_DAYS)
expired one-time password ► EXPIRED, deleted some days later (TOKEN_TTL_AFTER_EXPIRATION_DAYS)
transition that has ended ─► what it changed is stored, with its audit row
expired nonce, use of a secret that is gone, counter of a past window, count of sign-ins 8 days ago ► deleted
month to come ───────────► has a partition of the audit trail, three months ahead
"""
