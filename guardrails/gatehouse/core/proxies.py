"""The reverse proxies that the operator names. The gateway believes only these about the caller's address.

Pure. Promises: a caller can choose the address by which the gateway knows it only from an address of this list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from gatehouse.core.errors import SetupError

_NAME: Final = "FORWARDED_ALLOW_IPS"
_HOW: Final = (
    "Name the addresses or networks of your reverse proxies, such as 127.0.0.1 or 10.0.3.0/24, comma-separated."
)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Hold addresses and networks; none by default."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the list of an environment variable.

        Raises:
            SetupError: an entry is neither an address nor a network, or covers every address.
        """
        return cls(tuple(_network(each) for each in text.replace(",", " ").split()))

    def trust(self, peer: str) -> bool:
        """Tell whether the gateway believes a peer that connects from this address."""
        address = address_of(peer)
        return address is not None and self._has(address)

    def caller(self, peer: str, hops: Iterable[str]) -> str:
        """Return the address from which a request came: the nearest one that is no trusted proxy's.

        Args:
            peer: the address that has connected.
            hops: the entries of `X-Forwarded-For`, in order: each proxy appends the address that connected to it.
        """
        nearest = peer
        for hop in reversed(list(hops)):
            if not self.trust(nearest) or (address := address_of(hop)) is None:
                break
            nearest = str(address)
        return nearest

    def _has(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def address_of(text: str) -> Address | None:
    """Return the address of a hop, written with or without a port; None where it is not an address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network("0.0.0.0/0" if text == "*" else text)
    except ValueError as error:
        raise SetupError(f"{_NAME}: {text!r} is not an address or a network ({error}). {_HOW}") from None
    if network.prefixlen == 0:
        raise SetupError(f"{_NAME}: {text!r} covers every address, so callers could choose theirs. {_HOW}")
    return network
