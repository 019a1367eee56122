"""`python -m evaluation placeholders --base-url URL`: which form of a placeholder a model repeats best.

It needs a model behind an OpenAI-compatible API, which is yours to serve. Each form goes through the same prompts:
tasks that an agent has, three entities, fixed tokens, temperature 0. An answer counts as exact, as tolerated (the
gateway would put the value back: another case, other brackets, escapes), as altered (a part of it is there), or as
absent: the model said something else. The control is the value itself.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import httpx
from gatehouse.core.errors import SetupError

# Entity, its short name, a value, and tokens as a gateway would make them.
_VALUES = (
    ("EMAIL_ADDRESS", "email", "jane.doe@example.com", ("7Q2MKD4P", "E0X4VN8T", "R9C1ZB5H")),
    ("PHONE_NUMBER", "phone", "+44 20 7946 0958", ("W3HB6R1Z", "0KD95TQM", "XV28PJ7C")),
    ("PERSON", "person", "Jane Doe", ("5GJ8YC2N", "PA7T3X0V", "8MQD0W6B")),
)
CONTROL = "control: the value"
FORMS: Mapping[str, str] = {
    "<EMAIL_ADDRESS_7Q2MKD4P>": "<{entity}_{token}>",
    "[EMAIL_ADDRESS_7Q2MKD4P]": "[{entity}_{token}]",
    "EMAIL_ADDRESS_7Q2MKD4P": "{entity}_{token}",
    "{{EMAIL_ADDRESS_7Q2MKD4P}}": "{{{{{entity}_{token}}}}}",
    "<email:7q2mkd4p>": "<{short}:{low}>",
    CONTROL: "{value}",
}
"""Each form as it is shown, and how it is made."""

TASKS: Mapping[str, str] = {
    "repeat": "Repeat this text exactly: {it}",
    "question": "The contact of the project is {it}. The deadline is Friday. What is the contact of the project?",
    "tool argument": 'Write the JSON arguments of send_message(to, text) for this task: send "hello" to {it}.',
    "edit a line": "Change the port to 9090 and print both lines again.\nport = 8080\nowner = {it}",
    "translate": "Translate into French: Please contact {it} before Friday.",
}

VERDICTS = ("exact", "tolerated", "altered", "absent")
# The characters of a token, and how many of them in a row are a part of it and no accident.
_TOKEN, _PART = 8, 5


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold one question to the model, and the placeholder that its answer should hold.

    Attributes:
        tolerated: what the gateway would take for it.
    """

    task: str
    text: str
    written: str
    tolerated: re.Pattern[str]


def prompts(form: str) -> Iterator[Prompt]:
    """Yield the prompts of one form: each task with each entity and token. The control has no tokens."""
    for (task, text), (entity, short, value, tokens) in product(TASKS.items(), _VALUES):
        for token in tokens if form != CONTROL else tokens[:1]:
            written = FORMS[form].format(entity=entity, short=short, token=token, low=token.lower(), value=value)
            yield Prompt(task, text.format(it=written), written, _tolerated(written))


def _tolerated(written: str) -> re.Pattern[str]:
    """Return what identifies a placeholder without its brackets: in any case, with backslashes before `_`."""
    name = re.escape(written.strip("<>[]{}")).replace("_", r"\\{0,4}_")
    return re.compile(rf"{name}(?![0-9A-Za-z])", re.IGNORECASE)


def judged(prompt: Prompt, answer: str) -> str:
    """Return one of `VERDICTS`."""
    if prompt.written in answer:
        return "exact"
    if prompt.tolerated.search(answer):
        return "tolerated"
    end = _plain(prompt.written)[-_TOKEN:]
    parts = (end[at : at + _PART] for at in range(len(end) - _PART + 1))
    return "altered" if any(part in _plain(answer) for part in parts) else "absent"


def _plain(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "", text.lower())


def main(argv: Sequence[str]) -> int:
    """Print the counts; return 0."""
    parser = argparse.ArgumentParser(prog="python -m evaluation placeholders", description=__doc__.split("\n")[0])
    parser.add_argument("--base-url", required=True, help="of the API, as in http://127.0.0.1:8080/v1")
    parser.add_argument("--model", default="model", help="its name there (default: %(default)s)")
    parser.add_argument("--answers", action="store_true", help="also print what the model said")
    given = parser.parse_args(argv)
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    with httpx.Client(base_url=given.base_url.rstrip("/"), headers=headers, timeout=300) as client:
        print(f"| form | prompts | {' | '.join(VERDICTS)} |" + "".join(f" {task} |" for task in TASKS))
        print("|---|---|" + "---|" * (len(VERDICTS) + len(TASKS)))
        for form in FORMS:
            print(_row(form, [*_asked(client, given.model, form, shown=given.answers)]), flush=True)
    return 0


def _asked(client: httpx.Client, model: str, form: str, *, shown: bool) -> Iterator[tuple[str, str]]:
    """Ask the prompts of one form; yield each task and how its answer is judged."""
    for prompt in prompts(form):
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": 56,
            "temperature": 0,
            "seed": 1,
            "stop": ["Question:"],
        }
        try:
            answer = client.post("/chat/completions", json=asked)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise SetupError(f"--base-url: {error}. Serve a model there that answers /chat/completions.") from None
        said = answer.json()["choices"][0]["message"]["content"] or ""
        verdict = judged(prompt, said)
        if shown:
            print(f"{form} | {prompt.task} | {verdict} | {said!r}", file=sys.stderr)
        yield prompt.task, verdict


def _row(form: str, verdicts: Sequence[tuple[str, str]]) -> str:
    """Return a line of the table; by task it says how many of its answers keep the value."""
    counts = Counter(verdict for _, verdict in verdicts)
    kept = Counter(task for task, verdict in verdicts if verdict in ("exact", "tolerated"))
    cells = [str(len(verdicts)), *(str(counts[each]) for each in VERDICTS)]
    return f"| `{form}` | {' | '.join([*cells, *(str(kept[task]) for task in TASKS)])} |"
