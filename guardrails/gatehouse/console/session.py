"""Who is signed in: a sealed cookie that names a key by its hash, for eight hours. The key itself is kept nowhere.

The secret that seals it comes from LiteLLM's master key, so that every gateway of one installation reads the cookies of
the others, a restart ends nobody's session, and a new master key ends them all. Whether the key still holds is asked
of LiteLLM's tables at each request.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

LIFETIME_S: Final = 8 * 3600
_COOKIE_CHARS: Final = 1_000
_ATTEMPTS: Final = 10
# Of all addresses together. A machine that is guessing may close the door for others, never open it.
_ATTEMPTS_IN_ALL: Final = 100
_WINDOW_S: Final = 300.0

Attempt = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in.

    Attributes:
        key_hash: LiteLLM's hash of the key; `master` for the master key, which is in no table.
        expires_at: Unix time.
        nonce: what the session's CSRF token is made of, and what signing out ends.
    """

    key_hash: str
    expires_at: int
    nonce: str


MASTER: Final = "master"


def new_session(key_hash: str, now_s: float) -> Session:
    """A session that begins now."""
    return Session(key_hash, int(now_s) + LIFETIME_S, secrets.token_urlsafe(24))


class Sealer:
    """Makes cookies and CSRF tokens, and reads what came back."""

    def __init__(self, master_key: str) -> None:
        self._box = SecretBox(_derived(master_key, b"cookie"))
        self._csrf = _derived(master_key, b"csrf")

    def seal(self, session: Session) -> str:
        """The cookie's value."""
        data = json.dumps([session.key_hash, session.expires_at, session.nonce]).encode()
        return base64.urlsafe_b64encode(bytes(self._box.encrypt(data))).decode()

    def open(self, cookie: str, now_s: float) -> Session | None:
        """The session that a cookie stands for; None when it is not ours, changed, or over."""
        if len(cookie) > _COOKIE_CHARS:
            return None
        try:
            session = Session(*json.loads(self._box.decrypt(base64.urlsafe_b64decode(cookie))))
        except (ValueError, TypeError, CryptoError):
            return None
        return session if now_s < session.expires_at else None

    def csrf_token(self, session: Session) -> str:
        """What every form of this session must bring along."""
        return hmac.new(self._csrf, session.nonce.encode(), hashlib.sha256).hexdigest()

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Whether that is the session's token."""
        return hmac.compare_digest(self.csrf_token(session).encode(), token.encode("utf-8", "replace"))


class Attempts:
    """Keys that were refused lately, by the network that tried them and in all, for addresses can be changed."""

    def __init__(self) -> None:
        self._refused: deque[tuple[float, str]] = deque()

    def begin(self, address: str, at_s: float) -> Attempt | None:
        """Let this address try a key, which counts as refused until it opens something; None where it has to wait."""
        while self._refused and self._refused[0][0] <= at_s - _WINDOW_S:
            self._refused.popleft()
        network = _network_of(address)
        own = sum(each == network for _, each in self._refused)
        if own >= _ATTEMPTS or len(self._refused) >= _ATTEMPTS_IN_ALL:
            return None
        self._refused.append((at_s, network))
        return at_s, network

    def forget(self, attempt: Attempt) -> None:
        """The key was right, or nobody could look."""
        with contextlib.suppress(ValueError):  # it was so long ago
            self._refused.remove(attempt)


def _network_of(address: str) -> str:
    """What one party has: an IPv4 address, or the 64 bits that an IPv6 network gives to each of its customers."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)


def _derived(master_key: str, purpose: bytes) -> bytes:
    return hmac.new(master_key.encode(), b"gatehouse console 1 " + purpose, hashlib.sha256).digest()
