"""Screens: blocked words, secrets and prompt injection, found in one text without network, database or proxy."""
