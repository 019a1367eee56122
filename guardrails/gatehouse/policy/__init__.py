"""policy.yaml: what it may say, how it is read, and what its rules decide.

Pure but for `holder`, which watches the file: no clock, no network, no LiteLLM.
"""
