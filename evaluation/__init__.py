"""How well the gateway finds what it looks for: `python -m evaluation NAME` prints it."""
