"""Estimates what a request may cost, from the prices of its deployments."""
