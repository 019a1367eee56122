"""What all tests share: how workers divide them, and how Hypothesis makes up its cases.

A test file stays whole, and all that needs compose's one stack has one worker.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# How long a case takes says how busy the machine is, and nothing about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


class _Files(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/compose" if scope.startswith("tests/compose/") else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _Files(config, log)
