"""The Capsule Protocol: records, chains, Merkle trees, checkpoints and their verification. Pure."""
