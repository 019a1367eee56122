"""No test of this folder asks the internet: LiteLLM's price list is the packaged one, as in the gateway."""

import os

# LiteLLM reads it when it is imported, which some of the modules here do.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
