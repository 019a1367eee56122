"""Values and helpers that every other room may use. They import only the standard library at start."""
