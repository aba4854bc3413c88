"""Which addresses count as one, and which are not counted."""

import ipaddress
from typing import Final

ADDRESS_GROUP_BITS: Final = 64
"""IPv6 addresses that share these bits count as one: a household has 2**64 of them."""


def address_group(host: str) -> str | None:
    """The key under which an address is counted.

    Args:
        host: an IP address without port; anything else counts by its text.

    Returns:
        The address, of IPv6 only its network; None for addresses of this machine, behind which everybody may be.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, ADDRESS_GROUP_BITS), strict=False).network_address)
    return str(address)
