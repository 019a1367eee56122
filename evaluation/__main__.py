"""`python -m evaluation NAME ...`: runs the evaluation of that name, a module here with a `main(argv)`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the one that is named first; 2 where there is none."""
    names = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if "def main(" in path.read_text() and path.stem[0] != "_"
    )
    if not argv or argv[0] not in names:
        print(f"usage: python -m evaluation {{{','.join(names)}}} ...", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"evaluation.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
