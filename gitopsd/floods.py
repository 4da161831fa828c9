"""Who sends too much that proves nothing: counted by address, for a minute."""

import threading
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

_MINUTE_SEC = 60.0
_MAX_CLIENTS = 10_000
_SITE_BITS = 64


class Floods:
    """Counts the refusals of each client. A client is an address as `clients.client_of` gives it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, from any beginning."""
        self._clock = clock
        self._guard = threading.Lock()
        self._until = 0.0
        self._refusals: Counter[str] = Counter()

    def refused(self, client: str, most: int) -> float:
        """Count a refusal of `client`. The seconds left of this minute if there were more than `most` in it, else 0.

        Of this machine itself none is counted: a tunnel or a proxy that nobody trusts sends for everybody.
        """
        site = _site_of(client)
        if site is None:
            return 0.0
        with self._guard:
            now = self._clock()
            if now >= self._until:
                self._until = now + _MINUTE_SEC
                self._refusals.clear()
            if site not in self._refusals and len(self._refusals) >= _MAX_CLIENTS:
                site = ""
            self._refusals[site] += 1
            return self._until - now if self._refusals[site] > most else 0.0


def _site_of(client: str) -> str | None:
    """The address, of IPv6 the network that one customer has; None for this machine."""
    try:
        address = ip_address(client)
    except ValueError:
        return None if client else ""
    if address.is_loopback:
        return None
    return str(ip_network((address, _SITE_BITS), strict=False)) if isinstance(address, IPv6Address) else str(address)
