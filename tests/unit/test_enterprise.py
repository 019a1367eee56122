"""What LiteLLM needs of its proprietary package is there without it."""

from __future__ import annotations

import subprocess
import sys


def test_the_stand_in_is_one_name_and_no_package() -> None:
    """In a process of its own: an import leaves its traces."""
    code = (
        "from gatehouse.proxy import enterprise; enterprise.stand_in()\n"
        "from litellm_enterprise.proxy.hooks.managed_files import PROXY_LiteLLMManagedFiles as found\n"
        "assert (found | None) and not enterprise.installed()\n"
        "try:\n    import litellm_enterprise.proxy.enterprise_routes\n"
        "except ImportError:\n    print('as expected')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("as expected")
