"""Gatehouse: the governance that runs inside the LiteLLM proxy."""
