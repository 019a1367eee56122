"""What is written down about calls, and how none of it gets lost."""
