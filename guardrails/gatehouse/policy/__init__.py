"""policy.yaml: what it may say, how it is read, and what its rules decide. Pure: no clock, no network, no LiteLLM."""
