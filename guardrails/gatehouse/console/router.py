"""Signs people in and out of the console, and serves the files that its pages need."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from gatehouse.console.access import HOME, SIGN_IN, Form, Sessions, SignedIn, SignInNeeded, local, pages, with_cookie
from gatehouse.console.rendering import page
from gatehouse.core.errors import NotFound

_TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx-2.0.11.min.js": "text/javascript; charset=utf-8",
    "htmx-LICENSE.txt": "text/plain; charset=utf-8",
}
_FILES: Final = {name: files("gatehouse.console").joinpath("static", name).read_bytes() for name in _TYPES}

router = pages()


@router.get("/sign-in")
async def ask(request: Request, sessions: Sessions, to: str = HOME) -> Response:
    try:
        await sessions.visitor(request)
    except SignInNeeded:
        return page(request, "sign_in.html", to=local(to), refused=None)
    return RedirectResponse(local(to), 303)


@router.post("/sign-in")
async def sign_in(request: Request, sessions: Sessions, to: str = HOME) -> Response:
    cookie = await sessions.sign_in(request)
    if cookie is None:
        refused = "This key opens nothing here. Use a key of a user who has a role, and who is not blocked."
        return page(request, "sign_in.html", status=403, to=local(to), refused=refused)
    return with_cookie(request, RedirectResponse(local(to), 303), cookie)


@router.post("/sign-out")
async def sign_out(request: Request, sessions: Sessions, visitor: SignedIn, _: Form) -> Response:
    await sessions.sign_out(visitor)
    return with_cookie(request, RedirectResponse(SIGN_IN, 303), None)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    if name not in _FILES:
        raise NotFound("There is no such file.")
    return Response(_FILES[name], media_type=_TYPES[name], headers={"cache-control": "public, max-age=600"})
