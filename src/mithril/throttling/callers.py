"""Where a caller is, as every counter has it: one name for the IP addresses that one caller may have."""

import ipaddress

IPV6_PREFIX = 64  # the network of one subscriber, who chooses the rest of the IP address


def place_of(network_address: str | None) -> str:
    """Return the IP address of version 4, also where it is mapped into version 6; for version 6 the network.

    The answer has no space, whatever a proxy says: so it may end a key.
    """
    try:
        found = ipaddress.ip_address(network_address or "")
    except ValueError:
        return "".join(str(network_address).split())
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found), IPV6_PREFIX), strict=False))
    return str(found)
