"""policy.yaml: its schema, its reading, and the decisions of its rules.

Pure but for `holder`, which watches the file: no clock, no network, no LiteLLM.
"""
