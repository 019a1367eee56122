"""The console's pages, assembled: signing in and out, the files they need, and the pages of each kind."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from gatehouse.approvals.audit_entries import Journal
from gatehouse.console import inbox, records
from gatehouse.console.access import HOME, SIGN_IN, ConsoleRoute, SessionAuthenticator, SignInNeeded, local, with_cookie
from gatehouse.console.rendering import page
from gatehouse.core.errors import NotFound
from gatehouse.core.health import HealthCheck
from gatehouse.core.settings import Settings
from gatehouse.pipeline.in_force import PolicyInForceHolder

_FILES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx-2.0.11.min.js": "text/javascript; charset=utf-8",
    "htmx-LICENSE.txt": "text/plain; charset=utf-8",
}


def router(settings: Settings, governed: PolicyInForceHolder, look: HealthCheck, journal: Journal) -> APIRouter:
    """The pages.

    Args:
        look: the state of every part, as `/governance/v1/health` answers it.
        journal: where what is decided here is written down.
    """
    api = APIRouter(prefix=HOME, route_class=ConsoleRoute, include_in_schema=False)
    door = SessionAuthenticator(settings.database_url)
    contents = {name: files("gatehouse.console").joinpath("static", name).read_bytes() for name in _FILES}

    @api.get("/sign-in")
    async def ask(request: Request, to: str = HOME) -> Response:
        try:
            await door.visitor(request)
        except SignInNeeded:
            return page(request, "sign_in.html", to=local(to), refused=None)
        return RedirectResponse(local(to), 303)

    @api.post("/sign-in")
    async def sign_in(request: Request, to: str = HOME) -> Response:
        cookie = await door.sign_in(request)
        if cookie is None:
            refused = "This key opens nothing here. Use a key of a user who has a role, and who is not blocked."
            return page(request, "sign_in.html", status=403, to=local(to), refused=refused)
        return with_cookie(request, RedirectResponse(local(to), 303), cookie)

    @api.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        visitor = await door.visitor(request)
        await door.form(request, visitor)
        await door.sign_out(visitor)
        return with_cookie(request, RedirectResponse(SIGN_IN, 303), None)

    @api.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in contents:
            raise NotFound("There is no such file.")
        return Response(contents[name], media_type=_FILES[name], headers={"cache-control": "public, max-age=600"})

    inbox.add(api, door, settings, journal)
    records.add(api, door, settings, governed, look)
    return api
