"""Library mode: `litellm.completion()` under a gateway's rules, without the gateway in between.

`Governor.completion` and `Governor.acompletion` take what LiteLLM's take. Needs the extra `gatehouse-adapter[litellm]`.
"""

from gatehouse_adapter.errors import GovernanceUnavailable
from gatehouse_adapter.litellm.errors import ApprovalRejected, ApprovalTimeout, PolicyDeniedError
from gatehouse_adapter.litellm.governor import Governor
from gatehouse_adapter.litellm.options import GovernorConfig

__all__ = [
    "ApprovalRejected",
    "ApprovalTimeout",
    "GovernanceUnavailable",
    "Governor",
    "GovernorConfig",
    "PolicyDeniedError",
]
