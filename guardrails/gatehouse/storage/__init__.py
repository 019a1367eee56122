"""The gateway's own database access: connection pool, schema `gatehouse`, and what prepares LiteLLM's schema."""
