"""Looks into texts for personal data and for what the screens know, with the processes that do the work."""
