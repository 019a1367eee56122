"""Access to pages: the console looks the session's key up at each request, and every POST proves where it comes from.

Promises: a key that is deleted, blocked or expired signs no one in, from the next request on; a page is answered
only to the console's own pages, and to a person who follows a link.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from gatehouse.approvals.model import Voter
from gatehouse.console import sign_outs
from gatehouse.console.attempts import Attempts
from gatehouse.console.queries import Person, person
from gatehouse.console.rendering import HEADERS, page
from gatehouse.console.session import LIFETIME_S, MASTER, Sealer, Session, new_session
from gatehouse.core.errors import AccessDenied, GovernanceError, GovernanceUnavailable, InvalidRequest, SetupError
from gatehouse.core.reasons import Reason
from gatehouse.core.settings import Settings
from gatehouse.proxy.authentication import authenticated
from gatehouse.proxy.litellm_api import LITELLM_PROXY_MASTER_KEY_ALIAS, hash_token, proxy_server
from gatehouse.proxy.parts import part
from gatehouse.storage.connection import Pool

HOME: Final = "/governance"
SIGN_IN: Final = "/governance/sign-in"
COOKIE: Final = "gatehouse_console"
_AUDITORS: Final = frozenset({"proxy_admin", "proxy_admin_viewer"})
_FORM_BYTES: Final = 16_384
_KEY_CHARS: Final = 4_096


class SignInNeeded(Exception):
    """The visitor must sign in first."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who is signed in."""

    person: Person
    session: Session
    csrf: str

    @property
    def is_auditor(self) -> bool:
        """Say whether they may read what administrators read."""
        return self.person.role in _AUDITORS

    @property
    def name(self) -> str:
        return self.person.user_id or "nobody"

    @property
    def voter(self) -> Voter:
        """Return them as approvals know them."""
        return Voter(self.person.user_id, self.person.role, self.person.teams, self.person.key_hash)


class SessionAuthenticator:
    """Signs people in and out, and says at each request who asks."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._pool = pool
        self._attempts = Attempts(settings)

    async def visitor(self, request: Request) -> Visitor:
        """Return who asks.

        Raises:
            SignInNeeded: they are not signed in, or their key is no longer good.
            AccessDenied: another site's page asks.
        """
        _check_site(request)
        sealer = _sealer()
        session = sealer.open(request.cookies.get(COOKIE, ""), time.time())
        if session is None:
            raise SignInNeeded
        found = await self._person(session.key_hash, session.nonce)
        if found is None:
            raise SignInNeeded
        return Visitor(found, session, sealer.csrf_token(session))

    async def sign_in(self, request: Request) -> str | None:
        """Return the cookie for the key that the form brings; None when the key opens nothing.

        Raises:
            AccessDenied: too many attempts, or the form comes from elsewhere.
        """
        fields = await sent(request)
        attempt = await self._attempts.begin(request.client.host if request.client else "")
        if attempt is None:
            raise TooManyAttempts
        key = fields.get("key", "").strip()
        key_hash = await _authenticated(request, key)
        try:
            if key_hash is None or await self._person(key_hash) is None:
                return None
        except (psycopg.Error, OSError):
            await self._attempts.forget(attempt)  # the database is away: it says nothing about the key
            raise
        await self._attempts.forget(attempt)
        return _sealer().seal(new_session(key_hash, time.time()))

    async def sign_out(self, visitor: Visitor) -> None:
        """End the session: its cookie opens nothing any more, on any gateway of this database."""
        async with self._pool.connection() as connection:
            await sign_outs.end(connection, visitor.session.nonce, visitor.session.expires_at)

    async def _person(self, key_hash: str, nonce: str | None = None) -> Person | None:
        """Return whose key it is; None where the key has no user with a role, and where the session was ended."""
        async with self._pool.connection() as connection:
            if nonce is not None and await sign_outs.ended(connection, nonce):
                return None
            if key_hash == MASTER:
                return Person(
                    proxy_server.litellm_proxy_admin_name, "proxy_admin", frozenset(), LITELLM_PROXY_MASTER_KEY_ALIAS
                )
            found = await person(connection, key_hash)
        return found if found is not None and found.user_id and found.role else None


class TooManyAttempts(GovernanceError):
    """The visitor must wait before the next attempt."""

    status = 429
    code = Reason.TOO_MANY_ATTEMPTS
    headers: Mapping[str, str] = {"retry-after": "300"}

    def __init__(self) -> None:
        super().__init__("Too many keys were refused lately. Wait five minutes, then try again.")


class ConsoleRoute(APIRoute):
    """A route that answers whatever goes wrong with a page, and tells the browser what it may do with each answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except SignInNeeded:
                response = _to_sign_in(request)
            except GovernanceError as error:
                response = _refused(request, error)
            except RequestValidationError:
                response = _refused(request, InvalidRequest("The address of this page is not right. Follow a link."))
            except (SetupError, psycopg.Error, OSError):
                response = _refused(request, GovernanceUnavailable("The database does not answer. Try again soon."))
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer


Sessions = Annotated[SessionAuthenticator, part("sessions")]


async def _visitor(request: Request, sessions: Sessions) -> Visitor:
    return await sessions.visitor(request)


SignedIn = Annotated[Visitor, Depends(_visitor)]


async def auditor(visitor: SignedIn) -> None:
    """Let administrators and auditors pass.

    Raises:
        AccessDenied: the visitor is neither.
    """
    if not visitor.is_auditor:
        raise AccessDenied(
            "This page is for administrators and auditors. Sign in with a key of a user whose role is proxy_admin or "
            "proxy_admin_viewer."
        )


async def _page(request: Request, visitor: SignedIn) -> Callable[..., Response]:
    return partial(page, request, visitor=visitor)


Show = Annotated[Callable[..., Response], Depends(_page)]
"""Makes the page of a template for the visitor."""


async def _form(request: Request, visitor: SignedIn) -> dict[str, str]:
    """Read what a form of this visitor's own pages says.

    Raises:
        AccessDenied: it comes from elsewhere, or without the session's token.
    """
    fields = await sent(request)
    if not _sealer().is_csrf_token(visitor.session, fields.get("csrf", "")):
        raise AccessDenied("The form is not of this session. Load the page again, then send it.")
    return fields


Form = Annotated[dict[str, str], Depends(_form)]


def pages(*guards: Any) -> APIRouter:
    """Return a router for pages of the console; each guard may refuse a visitor all of them."""
    return APIRouter(prefix=HOME, route_class=ConsoleRoute, include_in_schema=False, dependencies=guards)


def _refused(request: Request, error: GovernanceError) -> Response:
    response = page(request, "error.html", status=error.status, error=error.message)
    response.headers.update(error.headers)
    return response


async def sent(request: Request) -> dict[str, str]:
    """Read the fields of a form that a page of this site sent.

    Raises:
        AccessDenied: it comes from elsewhere, or does not say from where.
        InvalidRequest: it is no form, or too long.
    """
    origin = request.headers.get("origin")
    if origin is None or not _is_ours(request, origin):
        raise AccessDenied("The form comes from another site. Open the console and send it from there.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidRequest("This is not a form of the console. Send it from there.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_BYTES:
            raise InvalidRequest("The form is too long. Shorten the comment.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise InvalidRequest("The form cannot be read. Send it again.") from None
    return {name: values[-1] for name, values in fields.items()}


def with_cookie(request: Request, response: Response, cookie: str | None) -> Response:
    """Return the answer with the session's cookie, or without any when it is None."""
    # Whoever sends that header makes their own cookie stricter, and nothing else of it: no proxy needs to be trusted.
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
    response.set_cookie(
        COOKIE,
        cookie or "",
        max_age=LIFETIME_S if cookie else 0,
        path=HOME,
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


def local(target: str) -> str:
    """Return where to go after signing in: a page of the console, whatever the address said."""
    safe = target.startswith((HOME + "/", HOME + "?")) and "\\" not in target and target.isprintable()
    return target if safe and ".." not in target and not target.startswith(SIGN_IN) else HOME


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"hx-refresh": "true"})
    # A cookie that is SameSite=Strict does not come along when a person follows a link from their mail. From a page of
    # ours it does, so let one ask again.
    if request.method == "GET" and request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return page(request, "bounce.html")
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET" or local(target) == HOME:
        return RedirectResponse(SIGN_IN, 303)
    return RedirectResponse(f"{SIGN_IN}?to={quote(target, safe='')}", 303)


def _check_site(request: Request) -> None:
    """Refuse other sites' pages, but for links to ours: LiteLLM lets every site read answers (CORS)."""
    origin = request.headers.get("origin")
    if origin is not None and not _is_ours(request, origin):
        _elsewhere()
    site, mode = request.headers.get("sec-fetch-site", "none"), request.headers.get("sec-fetch-mode", "navigate")
    if site not in ("none", "same-origin") and mode != "navigate":
        _elsewhere()


def _elsewhere() -> NoReturn:
    raise AccessDenied("Another site asks for this page. Open the console itself.")


def _is_ours(request: Request, origin: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc == request.headers.get("host")


def _sealer() -> Sealer:
    key = proxy_server.master_key
    if not isinstance(key, str) or not key:
        raise GovernanceUnavailable("The console needs LITELLM_MASTER_KEY. Set it in .env and start the gateway again.")
    return Sealer(key)


async def _authenticated(request: Request, key: str) -> str | None:
    """Return LiteLLM's hash of a key that LiteLLM itself accepts."""
    if not 0 < len(key) <= _KEY_CHARS or not key.isprintable() or not key.isascii():
        return None
    alone = Request({**request.scope, "headers": [(b"authorization", f"Bearer {key}".encode())]})
    try:
        await authenticated(alone, SIGN_IN, b"", "GET")
    except Exception:  # of many kinds, and all of them mean no
        return None
    is_master = secrets.compare_digest(key.encode(), str(proxy_server.master_key).encode())
    return MASTER if is_master else str(hash_token(key))
