"""What looks into texts: personal data, screens, and the processes that do the work."""
