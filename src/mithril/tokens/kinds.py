"""Which kinds of tokens there are, what each is good for, and what a token says about itself.

An operator may store a token of any other kind by hand: it is good for nothing here.
"""

import enum
from collections.abc import Mapping

import msgspec


class TokenKind(enum.StrEnum):
    """The kinds, by the names that the database and the wire have for them."""

    ACCESS = "access_token"  # the bearer of the API; from a sign-in it is also the session that authorizes a client
    REFRESH = "refresh_token"  # another access token, from the token endpoint
    CODE = "authorization_code"  # an access and a refresh token, once, from the token endpoint
    TWO_FACTOR = "2fa_access_token"  # waits for the one-time password of a login by the API
    CHANGE_PASSWORD = "change_password_token"  # a new password, once
    LOGIN_SESSION = "sign_in_visit"  # one answer to the consent form of the pages: the value is in a cookie
    LOGIN_FACTOR = "sign_in_second_factor"  # waits for the one-time password of the pages: in the same cookie
    LOGIN_PASSWORD = "sign_in_new_password"  # waits for a new password, in place of one that is too old: there too
    PASSWORD_LINK = "password_link"  # a new password, once, for a forgotten one: the value is in a message
    CONSOLE = "console_session"  # the pages of the console, for one client: in a cookie of its own
    CONSOLE_PHONE = "console_new_phone"  # waits for the code that was sent to another phone: in another cookie


def counted(name: str) -> str:
    """Return the kind by which a token is counted: `other` for one that an operator has stored by hand."""
    return name if name in _KINDS else "other"


class GrantType(enum.StrEnum):
    """What a caller asks for with a grant, and what a token was issued for, in its details."""

    PASSWORD = "password"
    CHANGE_PASSWORD = "change_password"
    CODE = "authorization_code"
    REFRESH = "refresh_token"
    AUTHORIZE_2FA = "authorize_2fa_access_token"
    REFRESH_2FA = "refresh_2fa_access_token"
    DIGITAL_SIGNATURE = "digital_signature"


# What a client holds, and may therefore revoke and introspect (RFC 7009, RFC 7662).
HELD_BY_CLIENTS = (TokenKind.ACCESS, TokenKind.REFRESH)
# What a browser may hold in the cookie of the pages, and for how many seconds: the time for one form.
HELD_BY_BROWSERS = (TokenKind.LOGIN_SESSION, TokenKind.LOGIN_FACTOR, TokenKind.LOGIN_PASSWORD)
LOGIN_SECONDS = 600
LINK_SECONDS = 900  # of a link for a new password
# The console: how long a session lasts without a page, and with however many (ASVS 5.0 sections 7.3.1 and 7.3.2).
CONSOLE_IDLE_SECONDS, CONSOLE_SECONDS = 1_800, 28_800
ACCOUNT_ONLY = "account"
# What is issued for one of these belongs to its family. That of a code is revoked as a whole; that of a login session
# joins the sessions of one sign-in, to which its forms are bound.
STARTS_A_FAMILY = (TokenKind.CODE, TokenKind.REFRESH, TokenKind.LOGIN_FACTOR, TokenKind.LOGIN_PASSWORD)
# What these give later is in their details, as `scope_request`.
ASK_FOR_SCOPE = (TokenKind.CODE, TokenKind.TWO_FACTOR)
# A user has one session with a client: a new token of the kind revokes the older ones of these kinds (rule SGN-16).
REPLACED_BY: Mapping[str, tuple[TokenKind, ...]] = {
    TokenKind.ACCESS: (TokenKind.ACCESS, TokenKind.TWO_FACTOR),
    TokenKind.TWO_FACTOR: (TokenKind.ACCESS, TokenKind.TWO_FACTOR),
    TokenKind.CHANGE_PASSWORD: (TokenKind.CHANGE_PASSWORD,),
    TokenKind.CONSOLE_PHONE: (TokenKind.CONSOLE_PHONE,),
}
# What a user whose password is too old still needs, to set another one.
OUTLIVE_A_PASSWORD = (
    TokenKind.TWO_FACTOR,
    TokenKind.CHANGE_PASSWORD,
    TokenKind.LOGIN_FACTOR,
    TokenKind.LOGIN_PASSWORD,
    TokenKind.PASSWORD_LINK,
)
# A token that was issued for one of these is held by a client's program, not by the sign-in of a user.
GRANTS_TO_PROGRAMS = (GrantType.CODE, GrantType.REFRESH)


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token says beyond its columns: JSON in the database, in these names."""

    grant_type: str | None = None
    app_id: str | None = None  # of a code and what is issued for it: the approval that it rests on
    redirect_uri: str | None = None  # of a code and what is issued for it: where the code went
    redirect_uri_since: str | None = None  # of a code: since which version of the connection that one has been good
    scope_request: str | None = None  # of a code or a two-factor token: the scope of what comes next
    code_challenge: str | None = None  # of a code: that of PKCE
    replaces: str | None = None  # of a refresh token: the id of the one that it was issued for
    request_authentication_factor: str | None = None  # the phone that is to become the user's second factor
    request_authentication_factor_type: str | None = None
    request_authentication_factor_state: str | None = None  # of the factor when that phone was named
    user_data: str | None = None  # of a login session by signature: the digest of what was signed
    answer: str | None = None  # of a used login session or link: which form used it; that form may come again
    account_state: str | None = None  # of a link: what an administrator can change of its user and the second factor
    began_at: str | None = None  # of a console session: when its user signed in, in ISO 8601
    acts_for: str | None = None  # of a console session that acts for no client: ACCOUNT_ONLY

    @classmethod
    def decoded(cls, text: str) -> "Details":
        """Return the details in JSON; what a token that was stored by hand has of other types counts as missing."""
        try:
            return _DECODER.decode(text)
        except msgspec.ValidationError:
            given = msgspec.json.decode(text)
            return cls(**{name: given[name] for name in cls.__struct_fields__ if isinstance(given.get(name), str)})

    @property
    def encoded(self) -> str:
        """The JSON of these details."""
        return msgspec.json.encode(self).decode()


NO_DETAILS = Details()
_KINDS = frozenset(TokenKind)
_DECODER = msgspec.json.Decoder(Details)
