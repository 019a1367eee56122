"""Holds what Gatehouse knows of LiteLLM's proxy."""
