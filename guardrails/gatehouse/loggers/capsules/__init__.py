"""CapsuleLogger: a LiteLLM logger that seals each call into a chain of its own."""

from gatehouse.loggers.capsules.logger import CapsuleLogger as CapsuleLogger
from gatehouse.loggers.capsules.logger import answer_hash as answer_hash
from gatehouse.loggers.capsules.logger import prompt_hash as prompt_hash
