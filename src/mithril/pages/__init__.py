"""The pages on which a user signs in and consents. There are two entrances, `/sign-in` and `/oauth2/authorize`.

    GET  ──► client and redirect URI ──wrong──► a page that explains it; the browser is sent nowhere
               │ right
               ├─ a later error ──────────► 303 to the redirect URI: error, error_description, state
               ├─ no login session ───────► the sign-in form
               └─ a login session ────────► the consent form, with the scopes that are new

    POST, sign-in form ──► password (and second factor) ──► a login session: a cookie for some minutes, for one client
               ├─ /sign-in, not of a role ► a page that explains it, with a link to the redirect URI
               ├─ something new is asked ─► 303 to the consent form
               ├─ no phone yet ───────────► a form for one, and for the code that is sent there; then on as here
               ├─ too old a password ─────► a form for another, then the consent form
               └─ all was allowed before ─► 303 to the redirect URI: code, state; no login session is begun
    POST, button of a link with `user_data` ──► signature ──► a login session, and 303 to the consent form
    POST, consent form ──► the login session is used up ──► 303 to the redirect URI: code, state, or error=access_denied

Only a POST from a form of ours gives a code. The query of the URL is the authorization request, the same for every
step; a form carries only what the user adds. The steps of an authorization are in `oauth.authorization`. What a user
does who has forgotten the password is in `password_links`.
"""
