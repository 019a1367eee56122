"""The console at /governance: pages that the gateway renders, for reviewers and auditors."""
