"""Takes names that a caller gives out of a request before LiteLLM sees it, where they are more than names.

LiteLLM keeps the end user, the tags and some headers of a call in its tables, in Redis and in its metrics as they came.
Promises: with masking on, a name in which there may be personal data or a secret is a keyed hash in all of them, and in
our own records; plain names stay as they are. Rules see what the caller said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import UploadFile

from gatehouse.core.keys import DerivedKey
from gatehouse.core.names import hidden, is_plain
from gatehouse.dialects.canonical import offered_tools
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii.config import Mode
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.scope import CallScope

# Where a body names its end user, in any dialect; LiteLLM looks in all of these.
_USERS: Final = ("user", "safety_identifier")
_USERS_IN_METADATA: Final = ("user_id", "user")
_SECRETS: Final = "secrets"
# A suffix by which providers tell a file's format.
_SUFFIX: Final = re.compile(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{1,4}\Z", re.DOTALL)
_KIND: Final = re.compile(r"(?:audio|video)/[a-z0-9.+-]{1,30}|application/octet-stream", re.ASCII)


class RecordedNames:
    """Those of one gateway process.

    Args:
        key: makes what is kept in a name's place.
        governance: says what is looked for now.
        configured: the tags that the operator has configured, which stay as they are.
    """

    def __init__(
        self,
        key: DerivedKey,
        governance: Callable[[], PolicyInForce],
        configured: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._key = key
        self._governance = governance
        self._configured = configured

    @property
    def masking(self) -> bool:
        """Whether personal data stays inside now."""
        return _masks(self._governance())

    async def hide(
        self, names: Iterable[str], plain: Callable[[str], bool] = is_plain, caller: str = "unnamed"
    ) -> dict[str, str]:
        """Return what stands for each of these names that is more than a name.

        Args:
            plain: whether a name has the shape of one.
            caller: whose turns at the scanner it takes.
        """
        governance = self._governance()
        if governance.scanner is None:
            return {}
        asked = set(names)
        more = {name for name in asked if not plain(name)} if _masks(governance) else set[str]()
        looked_at = sorted(asked - more)
        try:
            scans = await governance.scanner.scan(looked_at, caller)
        except ScanFailed:
            more.update(looked_at)
        else:
            for name, scan in zip(looked_at, scans, strict=True):
                if (scan.findings and _masks(governance)) or any(hit.screen == _SECRETS for hit in scan.hits):
                    more.add(name)
        return {name: hidden(name, self._key) for name in (more - self._configured() if more else more)}


async def hide_names(
    names: RecordedNames | None, call: CallScope, said: Iterable[str], plain: Callable[[str], bool] = is_plain
) -> Mapping[str, str]:
    """Note in a call's scope, and return, what stands for each of these names that is more than a name.

    Args:
        names: None where nothing is hidden.
        plain: whether a name has the shape of one.
    """
    if names is None:
        return {}
    hidden_names = await names.hide(said, plain, call.sender)
    call.hidden.update((stands, name) for name, stands in hidden_names.items())
    return hidden_names


def is_plain_model(name: str) -> bool:
    """Whether a model's name has the shape of a name; some providers write an `@` before a version or a family."""
    return is_plain(name.replace("@", "-"))


def _masks(governance: PolicyInForce) -> bool:
    pii = governance.pii
    return pii is not None and any(pii.mode_of(name) in (Mode.MASK, Mode.BLOCK) for name in pii.wanted)


def names_in(body: Mapping[str, Any]) -> Iterator[str]:
    """The names that a body gives to its end user and its tags."""
    metadata = body.get("metadata")
    for place, fields in ((body, _USERS), (metadata, _USERS_IN_METADATA)):
        if isinstance(place, Mapping):
            yield from (name for field in fields if (name := _name(place.get(field))))
            if isinstance(tags := place.get("tags"), list):
                yield from (tag for tag in tags if isinstance(tag, str))


def renamed(body: dict[str, Any], hidden_names: Mapping[str, str]) -> dict[str, Any]:
    """The body with what stands for names in their place; the same object where nothing does."""
    if not any(name in hidden_names for name in names_in(body)):
        return body
    changed = {**body, **_renamed(body, _USERS, hidden_names)}
    if isinstance(metadata := body.get("metadata"), Mapping):
        changed["metadata"] = {**metadata, **_renamed(metadata, _USERS_IN_METADATA, hidden_names)}
    return changed


def names_in_form(items: Iterable[tuple[str, UploadFile | str]]) -> Iterator[str]:
    """The names that a form gives to its end user."""
    for field, value in items:
        if isinstance(value, str) and field in _USERS and (name := _name(value)):
            yield name


async def written_form(
    items: Iterable[tuple[str, UploadFile | str]], hidden_names: Mapping[str, str]
) -> tuple[bytes, bytes]:
    """The type and the bytes of a form: the one way to write it that every reader understands the same.

    What a file is called is the caller's own affair: of its name only the ending is sent, which says what it holds.
    """
    boundary = uuid4().hex.encode()
    written = bytearray()
    for field, value in items:
        written += b'--%b\r\nContent-Disposition: form-data; name="%b"' % (boundary, field.encode())
        if isinstance(value, str):
            named = hidden_names.get(value.strip(), value) if field in _USERS else value
            written += b"\r\n\r\n%b\r\n" % named.encode()
        else:
            kind = value.content_type if _KIND.fullmatch(value.content_type or "") else None
            written += b'; filename="%b"\r\n' % _file_name(value.filename or "").encode()
            written += b"Content-Type: %b\r\n\r\n" % (kind or "application/octet-stream").encode()
            written += await value.read() + b"\r\n"
    written += b"--%b--\r\n" % boundary
    return b"multipart/form-data; boundary=" + boundary, bytes(written)


def _file_name(given: str) -> str:
    suffix = _SUFFIX.search(given)
    return f"file{suffix[0] if suffix else ''}"


def _name(value: Any) -> str | None:
    """A name as LiteLLM takes it from a body: numbers too, and without the blanks around it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _renamed(place: Mapping[str, Any], fields: Iterable[str], hidden_names: Mapping[str, str]) -> dict[str, Any]:
    changed: dict[str, Any] = {
        field: hidden_names[name] for field in fields if (name := _name(place.get(field))) and name in hidden_names
    }
    if isinstance(tags := place.get("tags"), list):
        changed["tags"] = [hidden_names.get(tag, tag) if isinstance(tag, str) else tag for tag in tags]
    return changed


async def hide_other_names(names: RecordedNames | None, scope: CallScope, key: Any, data: Mapping[str, Any]) -> None:
    """Note what stands for names that are more than names, where the edge could not: of tools, of a token."""
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    said = (
        getattr(key, "end_user_id", None),
        headers.get("x-gatehouse-agent"),
        headers.get("x-gatehouse-session") or data.get("litellm_session_id"),
        *offered_tools(data),
    )
    await hide_names(names, scope, (str(each) for each in said if each and each not in scope.hidden))
