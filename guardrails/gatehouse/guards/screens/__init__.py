"""Screens: find blocked words, secrets and prompt injection in one text, without network, database or proxy."""
