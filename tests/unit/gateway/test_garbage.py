"""The interpreter survives a collection whose finaliser changes the context variable that is being changed."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Every collection begins in the middle of a `set`, a chosen number of allocations into it; what the finaliser frees is
# overwritten at once. Without the guard, CPython 3.11 dies of SIGSEGV.
PROGRAM = """
import contextvars, gc, sys
from gatehouse.gateway.gc_guard import guard_contexts

variables = [contextvars.ContextVar(str(n)) for n in range(40)]
ended, overwritten = [], []

class Plain: ...

class Stream:
    def __del__(self):
        for value in (None, 1):
            for variable in variables:
                variable.set(value)
        ended.append(1)
        overwritten[:] = [bytes([1]) * size for size in range(15, 480, 16) for _ in range(60)]

def main(short_of_threshold):
    for variable in variables:
        variable.set(object())
    setters = [variable.set for variable in variables]
    for n in range(400):
        gc.collect()
        stream = Stream()
        stream.itself = stream
        del stream
        set_one, filling = setters[n % 40], []
        while gc.get_count()[0] < 300 - short_of_threshold:
            filling.append(Plain())
        gc.enable()
        set_one(n)
        gc.disable()

guard_contexts()
gc.disable()
gc.set_threshold(300, 1000, 1000)
contextvars.Context().run(main, int(sys.argv[1]))
assert len(ended) > 300
"""


@pytest.mark.parametrize("allocations", range(4))
def test_a_stream_that_ends_while_a_context_variable_changes_does_no_harm(allocations: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(allocations)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"signal {-done.returncode}"
