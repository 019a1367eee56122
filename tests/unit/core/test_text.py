"""Text that others control is kept and shown without harm."""

from __future__ import annotations

from gatehouse.core.text import clean, printable, storable


def test_what_postgres_refuses_is_replaced() -> None:
    assert storable("a\0b\ud800c\u202e\n") == "a\ufffdb?c\u202e\n"
    assert clean("n" * 255 + "\0n") == "n" * 255 + "\ufffd"
    assert clean(None) is None
    assert clean(12) == "12"


def test_text_that_would_move_the_cursor_is_spelled_out() -> None:
    assert printable("grüße ☃ \x1b[2J\n\u202e\x9b") == "grüße ☃ \\x1b[2J\\n\\u202e\\x9b"
