"""Embedded mode: Postgres, Redis, the gateway and Prometheus as plain processes of this machine, without Docker.

`stack` starts and stops them, `parts` describes each one, and `child` starts each one so that none outlives its
supervisor.
"""
