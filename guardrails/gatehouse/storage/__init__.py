"""Connects to the gateway's database, applies schema `gatehouse`, and prepares LiteLLM's schema."""
