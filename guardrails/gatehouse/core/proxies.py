"""The reverse proxies whose word on the caller's address is believed: those that the operator names, and no others.

Pure. Promises: a caller chooses the address by which the gateway knows them only where they connect from an address of
this list themselves.
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
    """Addresses and networks; none by default."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the list of an environment variable.

        Raises:
            SetupError: something in it is no address and no network, or is everybody's.
        """
        return cls(tuple(_network(each) for each in text.replace(",", " ").split()))

    def trust(self, peer: str) -> bool:
        """Whether who connects from this address is believed."""
        address = address_of(peer)
        return address is not None and self._has(address)

    def caller(self, peer: str, hops: Iterable[str]) -> str:
        """The address from which a request came: the nearest one that is no trusted proxy's.

        Args:
            peer: who has connected.
            hops: what `X-Forwarded-For` says, in its order: each proxy adds at the end who connected to it.
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
    """The address that a hop is written as, with a port or without; None where it is none."""
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
        raise SetupError(f"{_NAME}: {text!r} is everybody, so callers could choose their address. {_HOW}")
    return network
