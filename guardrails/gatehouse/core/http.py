"""The types of ASGI, and the headers that the gateway adds to its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALL_ID_HEADER = b"x-gatehouse-call-id"
EDITED_HEADER = b"x-gatehouse-edited"
# The key in a request's ASGI scope under which its sender stands, in whose share the body is counted.
SENDER: Final = "gatehouse.sender"
