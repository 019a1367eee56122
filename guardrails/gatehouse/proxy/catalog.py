"""Finds the deployments that may answer a call to a name, and their prices, in LiteLLM's router and price list.

A name may stand for several deployments, and for those of its fallbacks. They are cached until router or list change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import litellm
from cachetools import LRUCache
from litellm.litellm_core_utils.get_model_cost_map import GetModelCostMap
from litellm.proxy import proxy_server
from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from gatehouse.core.clock import monotonic
from gatehouse.pricing.deployment import Deployment
from gatehouse.pricing.structure import CL100K, O200K
from gatehouse.pricing.tariffs import tariff

# More names than any gateway serves; the limit bounds the memory for names that callers make up.
_MAX_NAMES: Final = 2_000
_MAX_NAME_CHARS: Final = 256
# A change that the comparison below cannot see is noticed after this time.
_FRESH_S: Final = 15.0
_FALLBACKS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")

# Providers that LiteLLM's list has under another name.
_LISTED_AS: Final = {"ollama_chat": "ollama", "text-completion-openai": "openai"}
# Call types for which LiteLLM drops `extra_body`, for every provider.
_DROPS_NEW_FIELDS: Final = frozenset(("moderation", "rerank", "speech"))
_SPEAK_OPENAI: Final = frozenset(
    (*litellm.openai_compatible_providers, "openai", "azure", "text-completion-openai", "custom_openai", "openrouter")
)
# OpenAI's models by tokenizer, as tiktoken lists them.
_O200K_NAMES = re.compile(
    r"(ft:)?(gpt-4o|gpt-4\.[1-9]|gpt-([5-9]|\d\d)|gpt-(image|audio|realtime)|chatgpt|o\d)", re.ASCII
)
_CL100K_NAMES = re.compile(r"(ft:)?(gpt-3\.5|gpt-4|text-embedding-|davinci-002|babbage-002|text-moderation)", re.ASCII)
# How many tokens other models may count where the encoding counts one. Claude's tokenizer is not public: its models
# count a quarter to a third more than cl100k_base.
_CLAUDE: Final = 1.35
_OTHERS: Final = 1.2


class Deployments:
    """Find the deployments of a name.

    Args:
        router: returns LiteLLM's router, or None where there is none.
    """

    def __init__(self, router: Callable[[], Any] = lambda: proxy_server.llm_router) -> None:
        self._router = router
        self._found = LRUCache[str, tuple[Deployment, ...]](_MAX_NAMES)
        self._named = LRUCache[tuple[str, str | None], bool](_MAX_NAMES)
        self._seen: tuple[Any, ...] = ()
        self._looked = float("-inf")

    def of(self, model: str) -> tuple[Deployment, ...]:
        """Return every deployment that may answer a call to `model`; empty where there is none."""
        router = self._router()
        self._refresh(router)
        found = self._found.get(model)
        if found is None:
            found = tuple(self._resolve(router, model))
            if len(model) <= _MAX_NAME_CHARS:
                self._found[model] = found
        return found

    def serves(self, model: str, team: str | None = None) -> bool:
        """Tell whether a call may name `model`: a group of config.yaml or one added later, an alias, a name matching
        a pattern such as `ollama/*`, or the team's own name for a model. A deployment's id and a provider's name for a
        model are refused.

        Args:
            team: LiteLLM's id of the caller's team.
        """
        router = self._router()
        if router is None or len(model) > _MAX_NAME_CHARS:
            return False
        self._refresh(router)
        found = self._named.get((model, team))
        if found is None:
            of_team = team is not None and router.map_team_model(model, team) is not None
            found = self._named[model, team] = of_team or _is_group(router, model)
        return found

    def sends_new_fields(self, call_type: str, model: str) -> bool:
        """Tell whether LiteLLM passes fields that it does not know on to the providers of `model`.

        For providers without OpenAI's API it drops such fields, or sends them where the provider refuses them.
        """
        if call_type.removeprefix("a") in _DROPS_NEW_FIELDS:
            return False
        router = self._router()
        served = [] if router is None else router.get_model_list(model_name=model) or _named_by_teams(router, model)
        return all(_provider(each) in _SPEAK_OPENAI for each in served)

    def _refresh(self, router: Any) -> None:
        """Empty the cache when the router or the price list has changed."""
        prices = GetModelCostMap.loaded_model_cost_map()
        seen: tuple[Any, ...] = (id(prices),)
        if router is not None:
            routes = [getattr(router, name, None) or [] for name in _FALLBACKS]
            seen = (id(prices), id(router), router.model_list, *routes, router.model_group_alias)
        # Lists compare their items by identity first, so this takes a microsecond while nothing changes.
        if seen != self._seen or monotonic() - self._looked > _FRESH_S:
            self._found.clear()
            self._named.clear()
            self._seen = tuple(_copied(part) for part in seen)
            self._looked = monotonic()

    def _resolve(self, router: Any, model: str) -> Iterator[Deployment]:
        if router is None:
            listed = _listed(model)
            if listed is not None:
                yield _deployment({"litellm_params": {"model": model}})
            return
        for group in _groups(router, model):
            for found in router.get_model_list(model_name=group) or _named_by_teams(router, group):
                yield _deployment(found)


def _copied(part: Any) -> Any:
    return list(part) if isinstance(part, list) else dict(part) if isinstance(part, Mapping) else part


def _groups(router: Any, model: str) -> Iterable[str]:
    """Return the name itself and every name that a call to it may fall back to."""
    groups, left = {model: None}, [model]
    while left:
        for name in _fallbacks(router, left.pop()):
            if name not in groups:
                groups[name] = None
                left.append(name)
    return groups


def _fallbacks(router: Any, group: str) -> Iterator[str]:
    for kind in _FALLBACKS:
        named, _ = get_fallback_model_group(fallbacks=getattr(router, kind, None) or [], model_group=group)
        for each in named or ():
            name = each.get("model") if isinstance(each, Mapping) else each
            if isinstance(name, str):
                yield name


def _team_name(entry: Mapping[str, Any]) -> str | None:
    """Return a team's own name for a deployment of its own."""
    name = (entry.get("model_info") or {}).get("team_public_model_name")
    return name if isinstance(name, str) else None


def _named_by_teams(router: Any, name: str) -> list[Any]:
    """Return the deployments that a team calls by this name of its own."""
    return [each for each in router.model_list if _team_name(each) == name]


def _is_group(router: Any, model: str) -> bool:
    """Tell whether callers of every team may use the name `model`; not where LiteLLM stores a team's name under it."""
    if model in (router.model_group_alias or {}) or router.pattern_router.route(model):
        return True
    groups = {each.get("model_name") for each in router.get_model_list_from_routing_groups()}
    return model in groups or any(
        each.get("model_name") == model and _team_name(each) is None for each in router.model_list
    )


def _deployment(entry: Mapping[str, Any]) -> Deployment:
    """Read one of the router's deployments. Prices may stand beside the model's parameters or in its info."""
    params, info = dict(entry.get("litellm_params") or {}), dict(entry.get("model_info") or {})
    provider, name = _split(str(params.get("model") or ""), params.get("custom_llm_provider"))
    base = info.get("base_model") or params.get("base_model")
    listed = _listed(str(base)) if base else _listed(name, provider)
    configured = {**info, **{key: value for key, value in params.items() if "cost" in key and value is not None}}
    claude = "claude" in name.lower()
    encoding, factor = _counted(provider, str(base or name).rpartition("/")[2])
    return Deployment(
        name=f"{provider}/{name}" if provider else name,
        tariff=tariff(listed, configured, caches_unasked=not claude),
        encoding=encoding,
        factor=_CLAUDE if claude else factor,
        id=str(info.get("id") or ""),
    )


def _provider(entry: Mapping[str, Any]) -> str:
    params = entry.get("litellm_params") or {}
    return _split(str(params.get("model") or ""), params.get("custom_llm_provider"))[0]


def _split(model: str, provider: Any) -> tuple[str, str]:
    """Split a model into provider and name. LiteLLM takes what stands before the first slash for the provider."""
    if isinstance(provider, str) and provider:
        return provider, model.removeprefix(f"{provider}/")
    head, slash, tail = model.partition("/")
    return (head, tail) if slash else ("", model)


def _listed(name: str, provider: str = "") -> Mapping[str, Any] | None:
    """Return the entry of the price list as LiteLLM loaded it; its working copy holds zeros for unknown prices."""
    prices: Mapping[str, Mapping[str, Any]] = GetModelCostMap.loaded_model_cost_map()
    provider = _LISTED_AS.get(provider, provider)
    if provider and (entry := prices.get(f"{provider}/{name}")) is not None:
        return entry
    entry = prices.get(name)
    if entry is None and not provider and "/" in name:
        return _listed(*reversed(_split(name, None)))
    if entry is not None and provider:
        of = str(entry.get("litellm_provider") or "")
        if not (of.startswith(provider) or of.endswith(provider)):
            return None
    return entry


def _counted(provider: str, name: str) -> tuple[str, float]:
    if provider in ("", "openai", "azure", "text-completion-openai"):
        if _O200K_NAMES.match(name):
            return O200K, 1.0
        if _CL100K_NAMES.match(name):
            return CL100K, 1.0
    return CL100K, _OTHERS
