"""The SQL of calls, chains, capsules and checkpoints."""
