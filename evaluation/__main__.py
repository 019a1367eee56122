"""`python -m evaluation [NAME]`: how much of what it looks for a scanner finds, and how much of that is right.

It needs no server and no network. The seed is fixed, so two runs of one version print the same numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from gatehouse.core.errors import SetupError

# Each is a module of this package with `main(argv)`, which prints and returns the exit code.
EVALUATIONS = {
    "detection": "the frozen sets: personal data, secrets and damage, beside Presidio (without a NAME, this one)",
    "screens": "blocked words, secrets and prompt injection",
    "pii": "personal data in texts by templates of the project",
    "placeholders": "which form of a placeholder a model repeats; needs a model behind an OpenAI-compatible API",
}


def main(argv: Sequence[str]) -> int:
    """Run the evaluation that the first argument names."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation",
        description=__doc__,
        epilog="\n".join(f"  {name:<11}{what}" for name, what in EVALUATIONS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name",
        nargs="?",
        choices=sorted(EVALUATIONS),
        default="detection",
        help="what to evaluate; `NAME --help` has its options",
    )
    chosen = parser.parse_args(argv[:1])
    return int(import_module(f"evaluation.{chosen.name}").main(argv[1:]))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
