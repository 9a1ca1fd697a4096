"""What a trusted proxy says about its caller: the IP address and the scheme, from X-Forwarded-For and -Proto.

uvicorn's middleware reads the headers. Here an IPv4-mapped IP address, which every IPv4 caller of a listener on `::`
has, counts as the IPv4 one that it contains, also where a proxy is compared with the setting.
"""

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

from mithril import identifiers

MAPPED_BITS = 96  # the prefix of an IPv4-mapped IP address


class TrustedProxies(_TrustedHosts):
    """The proxies that the setting names."""

    def _compute_trust(self, host: str) -> bool:
        return super()._compute_trust(identifiers.plain_ip(host))

    def get_trusted_client_address(self, x_forwarded_for: str) -> tuple[str, int]:
        """Return the caller that a proxy names; none for text that is no IP address, so that the proxy counts.

        A proxy may pass on what its caller sent, of which counters and the audit trail should keep nothing.
        """
        host, port = super().get_trusted_client_address(x_forwarded_for)
        return (host, port) if identifiers.is_ip(host) else ("", 0)


class ForwardedHeaders(ProxyHeadersMiddleware):
    """The application behind trusted proxies."""

    def __init__(self, app: ASGIApp, trusted_proxies: str) -> None:
        """`trusted_proxies`: IP addresses and networks, separated by commas, as the setting has them."""
        super().__init__(app, trusted_proxies)  # type: ignore[arg-type]  # the same thing in other words
        self.trusted_hosts = TrustedProxies([_plain(each.strip()) for each in trusted_proxies.split(",")])


def _plain(proxy: str) -> str:
    """Return the IPv4 form of an IPv4-mapped IP address or network."""
    address, slash, length = proxy.partition("/")
    plain = identifiers.plain_ip(address)
    if plain == address or (slash and int(length) < MAPPED_BITS):
        return proxy
    return f"{plain}/{int(length) - MAPPED_BITS}" if slash else plain
