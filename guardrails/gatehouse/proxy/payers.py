"""Names who pays for a call: the same rows of LiteLLM's to which LiteLLM itself would add the call's cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import litellm
from litellm.proxy import proxy_server
from litellm.proxy.auth.budget_throttle import should_throttle_budget_exceeded
from litellm.proxy.litellm_pre_call_utils import LiteLLMProxyRequestSetup

from gatehouse.core.call import Payer
from gatehouse.core.text import storable

# Where LiteLLM keeps a call's tags: the caller's, the key's and the team's together.
_NOTES = ("metadata", "litellm_metadata")


def payers_of(key: Any, data: Mapping[str, Any], end_user: str | None) -> tuple[Payer, ...]:
    """Return who pays for a call.

    Args:
        key: LiteLLM's `UserAPIKeyAuth`; None where it refused the key, and nobody pays.
        data: the request, with LiteLLM's own fields beside it.
        end_user: as LiteLLM's tables name them.
    """
    return () if key is None else tuple(_storable(_payers(key, data, end_user)))


def _payers(key: Any, data: Mapping[str, Any], end_user: str | None) -> Iterator[tuple[str, Any, Any, bool]]:
    user, team = key.user_id, key.team_id
    # LiteLLM slows such a key down where its own budget is used up.
    yield "key", LiteLLMProxyRequestSetup.get_logged_api_key(key), "", not should_throttle_budget_exceeded(key)
    yield "user", user, "", team is None or _settings().get("apply_user_budget_to_team_keys") is True
    yield "team", team, "", True
    if user is not None and team is not None:
        yield "team_member", user, team, True
    yield "organization", key.org_id, "", True
    yield "project", key.project_id, "", True
    if not litellm.disable_end_user_cost_tracking:
        fallback = (key.metadata or {}).get("end_user_budget_id") or litellm.max_end_user_budget_id
        yield "end_user", end_user, fallback or "", True
    if litellm.max_budget > 0:
        yield "user", proxy_server.litellm_proxy_budget_name, "", True
    for tag in _tags(data):
        yield "tag", tag, "", True


def _storable(payers: Iterable[tuple[str, Any, Any, bool]]) -> Iterator[Payer]:
    for kind, name, of, limited in payers:
        if name is not None and name != "":
            yield Payer(kind, storable(str(name)), storable(str(of)), limited)


def _tags(data: Mapping[str, Any]) -> Iterator[str]:
    for place in _NOTES:
        notes = data.get(place)
        tags = notes.get("tags") if isinstance(notes, Mapping) else None
        yield from (tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def _settings() -> Mapping[str, Any]:
    return proxy_server.general_settings or {}
