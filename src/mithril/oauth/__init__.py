"""The OAuth core: who may get which token.

    login ────────────► a session of a user with the sign-in page, scope `app:authorize`
    authorization ────► an approval, and a code for the redirect URI of one connection    (code, 300 s)
    token_endpoint ──┬► code_grant: the code is consumed once, for an access and a refresh token
                     └► refresh_grant: another access token, never wider than the grant

Every token is issued by `tokens.service.issue`. All that comes of one code is a family; a code that is presented a
second time revokes it. Three edges call these rules: `esoz_routes` with `factor_routes`, `standard_routes`, and the
pages.
"""
