"""What clients see through the gateway and not from the provider directly, with the reason; it is a page of docs too.

`python -m tests.support.client_differences` writes docs/client-differences.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.client_conversations import CONVERSATIONS, VERCEL, VERCEL_CLIENT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client-differences.md"


@dataclass(frozen=True)
class Difference:
    """A known difference.

    Attributes:
        client: whose it is; None for all.
        place: the end of its place in what a program sees.
        what: it, in a sentence's part.
        why: the reason.
        masked: with masking alone.
    """

    client: str | None
    place: str
    what: str
    why: str
    masked: bool = False

    def covers(self, client: str, place: str, *, masking: bool) -> bool:
        """Tell whether it is the difference that was found at a place."""
        return self.client in (None, client) and place.endswith(self.place) and (masking or not self.masked)


# Found by tests/stack/test_client_differences.py: it fails on a difference that is not here.
KNOWN: tuple[Difference, ...] = ()

# What the comparison leaves out.
_NOT_COMPARED = (
    (
        "ids and times",
        "each call has its own; the id of a response is LiteLLM's, which knows by it whose it is",
    ),
    (
        "the model's name, where `config.yaml` gives it another",
        "a caller sees the name that it asked for",
    ),
    (
        "headers",
        "LiteLLM and Gatehouse add theirs: `x-litellm-...`, `x-gatehouse-...`. `Retry-After`, `x-should-retry`, the "
        "limits and the request's id are the provider's",
    ),
    (
        "with masking: where a stream is cut within a text that holds a placeholder",
        "the gateway waits until it knows the whole placeholder",
    ),
    (
        "with `screens`: where a stream is cut within its text, and an event more before the end of a text",
        "words that answers must not hold are found whole, so the gateway waits for the end of a word",
    ),
    (
        "with masking or `screens`: signatures and encrypted strings; tests/stack/test_signed_parts.py has them",
        "the gateway knows them again by a tag at their beginning ([pii.md](pii.md#what-a-provider-has-signed))",
    ),
    (
        "with masking: signed thinking",
        "it keeps its placeholders, because the client must send back what the provider signed",
    ),
    (
        "a provider with another API than the caller's, such as Claude by `/v1/chat/completions`",
        "LiteLLM translates, and what it makes of an answer is its own",
    ),
    (
        "with a callback in `config.yaml` that may change answers",
        "LiteLLM's form of the answer is passed on, because the callback saw that one",
    ),
)


def page() -> str:
    """Return the page."""
    clients = dict.fromkeys([*(each.client for each in CONVERSATIONS), VERCEL_CLIENT])
    named = {
        client: [each.name for each in CONVERSATIONS if each.client == client] or [name for name, _ in VERCEL]
        for client in clients
    }
    lines = [
        "# What clients see differently",
        "",
        "The tests let each client below have the same conversations with an imitation of the provider, directly and",
        "through the gateway, without masking and with it. They compare objects, events in their order and exceptions.",
        "`python -m tests.support.client_differences` writes this page from their list, and",
        "tests/stack/test_client_differences.py fails on a difference that is not in it.",
        "",
        *(_table(("client", "conversations"), [(client, ", ".join(names)) for client, names in named.items()])),
        "",
        "## Differences",
        "",
        *(
            _table(
                ("client", "what differs", "why"),
                [
                    (each.client or "all", each.what + (" (with masking)" if each.masked else ""), each.why)
                    for each in KNOWN
                ],
            )
            if KNOWN
            else ["None."]
        ),
        "",
        "## Not compared",
        "",
        *_table(("what", "why"), _NOT_COMPARED),
    ]
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> list[str]:
    written = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [written[0], "|---" * len(head) + "|", *written[1:]]


if __name__ == "__main__":
    PAGE.write_text(page())
