"""The enforcement point between a client's connection and LiteLLM's proxy."""
