"""Whose delivery is it? Peer + headers → the address of the client, and whether that may deliver."""

import functools
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gitopsd.settings import Proxy

UNIX = "unix"
"""What stands for the other end of a unix socket, which has no address."""

_REMEMBERED = 1024  # as most deliveries come from a few
_LONGEST = 100
"""Characters of an address, with its zone. What is longer is a stranger's, and not to be remembered."""

_Address = IPv4Address | IPv6Address


def client_of(peer: str, headers: Mapping[str, str], proxy: Proxy) -> str:
    """The address of who sent the request, or UNIX. `peer` is the address of who is connected to us, if he has one.

    A header is believed only from a trusted proxy. Of several addresses in it the last one counts that is none of a
    trusted proxy, as whoever is before it can write what he likes. "" if the header holds no address there.
    """
    peer = str(_parsed(peer) or UNIX)
    if not is_in(peer, proxy.trusted):
        return peer
    given = headers.get(proxy.header.upper(), "")
    for hop in reversed([each.strip() for each in given.split(",")]) if given else ():
        address = _parsed(hop)
        if address is None:
            return ""
        if not is_in(str(address), proxy.trusted):
            return str(address)
    return peer


def is_in(client: str, networks: Iterable[str]) -> bool:
    """Whether an address, or UNIX, is in one of `networks`."""
    address = _parsed(client)
    if address is None:
        return client == UNIX and UNIX in networks
    return any(address in ip_network(network, strict=False) for network in networks if network != UNIX)


def _parsed(text: str) -> _Address | None:
    return _address(text) if len(text) <= _LONGEST else None


@functools.lru_cache(_REMEMBERED)
def _address(text: str) -> _Address | None:
    """An IPv4 address may come in the clothes of IPv6, where one socket serves both."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
