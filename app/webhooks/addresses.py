"""Which addresses may be asked: those of the public internet, however they are written. Pure."""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")

# What Python's own lists lack, or know in some of its versions only.
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "100::/64",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)


def is_public(text: str) -> bool:
    """Tell whether an IP address belongs to the public internet.

    An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4) is what that address is.

    Args:
        text: an address as the system's resolver gives it, perhaps with a zone; anything else is not public.
    """
    try:
        address = _inner(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    )


def _inner(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def literal_address(host: str) -> str | None:
    """Return the IP address that a host's name spells out; None for a name that has to be looked up.

    127.1, 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1 for the system's resolver.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
