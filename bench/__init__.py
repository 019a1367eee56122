"""How fast the gateway is, as ratios from one run on one machine: `python -m bench`. See docs/performance.md."""
