"""The command line answers at once: it does not bring LiteLLM before it knows which command is wanted."""

from __future__ import annotations

import subprocess
import sys

_HELP = """
import sys
from gatehouse.cli import main
try:
    main()
finally:
    print("litellm" in sys.modules)
"""


def test_no_command_waits_for_litellm_before_it_is_known_which_one_it_is() -> None:
    said = subprocess.run([sys.executable, "-c", _HELP, "--help"], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "False"
