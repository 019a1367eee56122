"""The texts of `python -m bench pipeline`: prompts and conversations, all different.

Pure: a number always gives the same text. Words come from a list of common ones, which are one token each in OpenAI's
encodings. Addresses are of example.com (RFC 2606); cards have a valid check digit.
"""

from __future__ import annotations

import random

PROMPT_TOKENS = 50
TURNS, CONVERSATION_TOKENS = 20, 4_000

WORDS = """
about above across after again along also always another around asked away back because been before began being best
better between both bring build call came change city close cold come could country cut day different door down draw
each early earth east eat end enough even every example eye face family far father feet few find first follow food
form found four from full gave girl give good great green ground group grow half hand hard head hear help here high
home hot house idea island just keep kind know land large last later learn leave left letter life light line list
""".split()
EMAIL_DOMAIN = "example.com"
SYSTEM = "You are a careful assistant who answers in plain words and says so when the answer is not known. " * 5

Message = dict[str, str]


def email(number: int) -> str:
    return f"ann{number}@{EMAIL_DOMAIN}"


def card(number: int) -> str:
    """Return sixteen digits with the check digit of ISO/IEC 7812-1, in groups of four."""
    digits = f"4{number * 7_919_000_011 % 10**14:014d}"  # a factor without 2 and 5: no two numbers share a card
    total = sum(sum(divmod(int(digit) * (2 - index % 2), 10)) for index, digit in enumerate(digits))
    digits += str(-total % 10)
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


def prompt(number: int) -> str:
    """Return some 50 tokens; of four one holds an e-mail address (number % 4 is 0) and one a card number (2)."""
    words = _words(random.Random(number), (35, 45, 29, 45)[number % 4])
    text = f"Note {number}: {words}"
    if number % 4 == 0:
        return f"{text}. Write to {email(number)} about it."
    if number % 4 == 2:
        return f"{text}. Charge card {card(number)} today."
    return f"{text}."


def conversation(number: int) -> list[Message]:
    """Return a system message, twenty questions and the nineteen answers between them: some 4,000 tokens, 100 in each.
    Every fifth question, the last one too, holds an e-mail address."""
    drawn = random.Random(-1 - number)
    messages = [{"role": "system", "content": SYSTEM}]
    for turn in range(1, TURNS + 1):
        if turn > 1:
            messages.append({"role": "assistant", "content": f"Answer {number}.{turn}: {_words(drawn, 93)}."})
        question = f"Turn {number}.{turn}: {_words(drawn, 83 if turn % 5 == 0 else 93)}."
        if turn % 5 == 0:
            question += f" Write to {email(1000 * number + turn)} about it."
        messages.append({"role": "user", "content": question})
    return messages


def until_turn(messages: list[Message], turn: int) -> list[Message]:
    """Return what an agent sends in that turn (1 to 20): all earlier messages and the new question."""
    return messages[: 2 * turn]


def _words(drawn: random.Random, count: int) -> str:
    return " ".join(drawn.choices(WORDS, k=count))
