"""What every other room may use; it imports the standard library alone."""
