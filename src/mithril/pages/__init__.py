"""The pages on which a person signs in and consents. Two entrances, one flow: `/sign-in` and `/oauth2/authorize`.

    GET  ──► client and address ──wrong──► a page that explains it; the browser is sent nowhere
               │ right
               ├─ a later error ──────────► 303 to the address: error, error_description, state
               ├─ nobody is signed in ────► the sign-in form
               └─ somebody is ────────────► the consent form, with the scopes that are new

    POST, sign-in form ──► password (and second factor) ──► a visit: a cookie for some minutes, for this client
               ├─ something new is asked ─► 303 to the consent form
               └─ all was allowed before ─► 303 to the address: code, state; no visit is begun
    POST, consent form ──► the visit ends ──► 303 to the address: code, state, or error=access_denied

Only a POST from a form of ours gives a code. Who may get which scope is decided in `oauth`; the query of the URL
is the asked, the same for every step, and the forms carry only what the person adds.
"""
