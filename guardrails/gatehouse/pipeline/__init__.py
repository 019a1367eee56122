"""The decision point: a file for each stage of a call, in the order of docs/architecture.md."""
