"""The enforcement point: what stands between a client's connection and LiteLLM's proxy."""
