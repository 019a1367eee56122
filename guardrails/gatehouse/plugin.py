"""The name by which config.yaml calls the hooks: gatehouse.plugin.governance."""

from gatehouse.gateway.hooks import governance as governance
