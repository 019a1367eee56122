"""Embedded mode: Postgres, Redis, the gateway and Prometheus as plain processes of this machine, without Docker.

`stack` brings them up and down, `parts` says what each one is, and `child` starts each one so that none outlives its
supervisor.
"""
