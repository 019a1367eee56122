"""The gateway's own Prometheus metrics. It serves them together with LiteLLM's, from the same registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

calls_total = Counter("gatehouse_calls_total", "Model calls by outcome.", ["outcome", "call_type"])
call_seconds = Histogram(
    "gatehouse_call_seconds",
    "Duration of governed calls, first byte to last.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
intent_seconds = Histogram(
    "gatehouse_intent_seconds",
    "Time a call waited for its intent to be committed.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)
unsettled = Gauge("gatehouse_calls_unsettled", "Ended calls that are not yet in the database and the audit log.")
spend_drift = Gauge(
    "gatehouse_spend_drift_usd",
    "US dollars by which LiteLLM's tables of spend differed from the ledger when they were last compared and repaired.",
    ["tables"],
)
unpriced = Counter(
    "gatehouse_unpriced_calls_total", "Model calls whose cost is not known, because their model has no price."
)
estimated_costs = Counter(
    "gatehouse_estimated_costs_total", "Model calls whose cost is our own count, because no other account was left."
)
plugin_errors = Counter(
    "gatehouse_plugin_errors_total", "Failures inside the governance plugin, by stage; calls are refused.", ["stage"]
)
ungoverned = Counter("gatehouse_ungoverned_total", "Requests refused because their route is not governed.")
unauthenticated = Counter(
    "gatehouse_unauthenticated_total", "Model calls refused because they had no valid key; they leave no record."
)
capsules_sealed = Counter("gatehouse_capsules_sealed_total", "Capsules that this gateway sealed.")
checkpoints_signed = Counter("gatehouse_checkpoints_signed_total", "Checkpoints that this gateway signed.")
checkpoint_errors = Counter(
    "gatehouse_checkpoint_errors_total",
    "Failed attempts to sign a checkpoint, also where a chain does not continue the last signed one; the log says why.",
)
egress_mismatches = Counter(
    "gatehouse_egress_mismatches_total",
    "Calls stopped because LiteLLM was about to send something else than was admitted, by what differed.",
    ["place"],
)
decisions = Counter("gatehouse_decisions_total", "Decisions on calls, by verdict.", ["verdict"])
rules_matched = Counter(
    "gatehouse_rules_matched_total",
    "Matches of policy.yaml's rules, by mode; a rule that could not be evaluated counts as matched.",
    ["rule", "mode"],
)
findings = Counter("gatehouse_findings_total", "Personal data found in requests, by entity.", ["entity"])
screen_hits = Counter("gatehouse_screen_hits_total", "Findings of screens, by side.", ["screen", "side"])
blocks = Counter("gatehouse_blocks_total", "Refused calls, by error code.", ["code"])
stage_seconds = Histogram(
    "gatehouse_stage_seconds",
    "Time a call spent in one stage of the pipeline.",
    ["stage"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)
prescans = Counter(
    "gatehouse_prescans_total", "Requests whose newest texts were scanned while their caller was authenticated."
)
stage_errors = Counter(
    "gatehouse_stage_errors_total",
    "Failures of a stage, by reason; the call is refused unless policy.yaml's on_error allows it.",
    ["stage", "reason"],
)
policy_loads = Counter("gatehouse_policy_loads_total", "Loads of a changed policy.yaml, by result.", ["result"])
policy_good = Gauge("gatehouse_policy_good", "1 while the newest policy.yaml is in force, else 0.")
approvals = Counter(
    "gatehouse_approvals_total",
    "Approvals by event: requested, required but missing, used, returned because nothing was sent.",
    ["event"],
)
held = Gauge("gatehouse_calls_held", "Calls whose connection is held for a pending approval.")
