"""Finds personal data with Presidio's recognizers, masks it in requests, and restores it in answers."""
