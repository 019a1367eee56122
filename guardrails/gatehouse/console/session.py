"""Who is signed in: a signed cookie that names a key by its hash, for eight hours. The key itself is kept nowhere.

The secret that signs it comes from LiteLLM's master key, so that every gateway of one installation reads the cookies of
the others, a restart ends nobody's session, and a new master key ends them all. Whether the key still holds is asked
of LiteLLM's tables at each request.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import astuple, dataclass
from typing import Any, Final

from itsdangerous import BadData, Signer, URLSafeSerializer

LIFETIME_S: Final = 8 * 3600
_COOKIE_CHARS: Final = 1_000
# A key of its own for each purpose, by HMAC, and signatures with SHA-256: the library's own defaults have SHA-1.
_HMAC: Final[dict[str, Any]] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


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
        self._cookie = URLSafeSerializer(master_key, "gatehouse console cookie", signer_kwargs=_HMAC)
        self._csrf = Signer(master_key, "gatehouse console form", **_HMAC)

    def seal(self, session: Session) -> str:
        """The cookie's value."""
        return str(self._cookie.dumps(astuple(session)))

    def open(self, cookie: str, now_s: float) -> Session | None:
        """The session that a cookie stands for; None when it is not ours, changed, or over."""
        if len(cookie) > _COOKIE_CHARS:
            return None
        try:
            session = Session(*self._cookie.loads(cookie))
        except (BadData, TypeError, ValueError):
            return None
        return session if now_s < session.expires_at else None

    def csrf_token(self, session: Session) -> str:
        """What every form of this session must bring along."""
        return self._csrf.get_signature(session.nonce).decode()

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Whether that is the session's token."""
        return self._csrf.verify_signature(session.nonce, token)
