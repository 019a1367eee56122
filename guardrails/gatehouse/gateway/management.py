"""Checks what a management request would store before LiteLLM does."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote

from gatehouse.core.errors import InvalidRequest, TooLarge
from gatehouse.core.strict_json import RepeatedName, unique
from gatehouse.proxy.identity import key_hash
from gatehouse.proxy.key_settings import check_management

# The largest request of LiteLLM's UI (five hundred users at once) has some 100 kB.
MAX_BYTES: Final = 1024 * 1024
# A picture, which LiteLLM bounds itself and never reads as settings.
_UPLOADS: Final = frozenset({"/upload/logo"})


def check_stored(path: str, body: bytes) -> None:
    """Refuse a body that would store something that LiteLLM must not obey.

    Raises:
        TooLarge: it is larger than a management request may be.
        InvalidRequest: it names the field.
    """
    route = path.removesuffix("/")
    if route in _UPLOADS:
        return
    if len(body) > MAX_BYTES:
        raise TooLarge(f"A management request may have {MAX_BYTES // 1024:,} KiB. Send fewer objects at once.")
    check_management(route, _decoded(body))


def sets_spend_of(path: str, body: bytes) -> tuple[str, ...]:
    """Return whose spend a management request sets, as LiteLLM's tables name them; empty for every other request."""
    route = path.removesuffix("/")
    stated = _decoded(body) if body else None
    fields = stated if isinstance(stated, dict) else {}
    if not route.endswith("/reset_spend") and "spend" not in fields:
        return ()
    names = [fields.get(name) for name in _NAMES] + ([unquote(route.split("/")[-2])] if "/reset_spend" in route else [])
    return tuple(str(key_hash(name)) for name in names if isinstance(name, str) and name)


# The fields by which management requests name whom they change.
_NAMES: Final = ("key", "token", "user_id", "team_id", "organization_id", "project_id", "name", "tag_name")


def _decoded(body: bytes) -> Any:
    """Decode the body's JSON as FastAPI does; None for other bodies, which LiteLLM refuses or never stores."""
    try:
        return json.loads(body, object_pairs_hook=unique)
    except RepeatedName:
        raise InvalidRequest("The body has two entries of one name. Send each name once.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply. Send settings as LiteLLM's API describes them.") from None
    except ValueError:
        return None
