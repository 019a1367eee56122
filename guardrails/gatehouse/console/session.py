"""Keeps people signed in by a signed cookie, which names a key by its hash for eight hours. No part stores the key.

The secret that signs it comes from LiteLLM's master key. So all gateways of one installation read each other's cookies,
a restart ends no session, and a new master key ends all sessions. The console asks LiteLLM's tables at each request
whether the key is still good.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import astuple, dataclass
from typing import Any, Final

from itsdangerous import BadData, Signer, URLSafeSerializer

LIFETIME_S: Final = 8 * 3600
_COOKIE_CHARS: Final = 1_000
# HMAC derives one key for each purpose. Signatures use SHA-256, because the library's default is SHA-1.
_HMAC: Final[dict[str, Any]] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class Session:
    """Hold one sign-in.

    Attributes:
        key_hash: LiteLLM's hash of the key; `master` for the master key, which is in no table.
        expires_at: Unix time.
        nonce: the CSRF token is made of it, and a sign-out names the session by it.
    """

    key_hash: str
    expires_at: int
    nonce: str


MASTER: Final = "master"


def new_session(key_hash: str, now_s: float) -> Session:
    """Return a session that begins now."""
    return Session(key_hash, int(now_s) + LIFETIME_S, secrets.token_urlsafe(24))


class Sealer:
    """Make cookies and CSRF tokens, and check those that browsers send back."""

    def __init__(self, master_key: str) -> None:
        self._cookie = URLSafeSerializer(master_key, "gatehouse console cookie", signer_kwargs=_HMAC)
        self._csrf = Signer(master_key, "gatehouse console form", **_HMAC)

    def seal(self, session: Session) -> str:
        """Return the cookie's value."""
        return str(self._cookie.dumps(astuple(session)))

    def open(self, cookie: str, now_s: float) -> Session | None:
        """Return the session of a cookie; None when the cookie is not ours, was changed, or is over."""
        if len(cookie) > _COOKIE_CHARS:
            return None
        try:
            session = Session(*self._cookie.loads(cookie))
        except (BadData, TypeError, ValueError):
            return None
        return session if now_s < session.expires_at else None

    def csrf_token(self, session: Session) -> str:
        """Return the token that every form of this session must send."""
        return self._csrf.get_signature(session.nonce).decode()

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Tell whether this is the session's token."""
        return self._csrf.verify_signature(session.nonce, token)
