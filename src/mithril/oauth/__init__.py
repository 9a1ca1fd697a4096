"""The OAuth core: who may get which token.

    login ──────────► a person's session with the sign-in page, scope `app:authorize`
    authorize ──────► an approval, and a code for one connection's address        (code, 300 s)
    code_grant ─────► the code is consumed once: an access and a refresh token    (a family)
    refresh_grant ──► another access token, never wider than the grant

Every grant ends in `tokens.service.issue`. A code that comes a second time ends its family.
"""
