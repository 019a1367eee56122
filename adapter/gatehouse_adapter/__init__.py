"""Async client for agents behind Gatehouse."""
