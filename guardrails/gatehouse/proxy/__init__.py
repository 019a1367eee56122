"""What Gatehouse knows of LiteLLM's proxy."""
