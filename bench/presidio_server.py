"""Presidio behind HTTP, as LiteLLM's guardrail asks it: `POST /analyze`, `POST /anonymize` and `GET /health`.

Run as `python -m bench.presidio_server analyzer|patterns|anonymizer PORT`. It does the same as Microsoft's images
mcr.microsoft.com/presidio-analyzer and mcr.microsoft.com/presidio-anonymizer: a Flask application behind gunicorn with
one synchronous worker, which closes each connection after its answer; Presidio's engines with the package's
configuration; its log at INFO, gunicorn's without a line for each request. The differences:

- the small spaCy model runs on each text, where the image has the large one, en_core_web_lg;
- `patterns` runs none, and looks for no names. There is no such image: it is for the lean comparison;
- the e-mail recognizer knows the top-level domains that it was installed with, and asks no network for newer ones;
- Python, Flask and gunicorn are those of this environment, and the server ends with the process that started it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

from flask import Flask, Response, jsonify, request
from gatehouse.embedded.child import end_with_parent
from werkzeug.exceptions import BadRequest, HTTPException

from evaluation.presidio import engine

Reply = Response | tuple[Response, int]

log = logging.getLogger("presidio")


def analyzer(app: Flask, *, names: bool) -> None:
    from presidio_analyzer import AnalyzerRequest, BatchAnalyzerEngine

    one = engine(names=names)
    many: Any = BatchAnalyzerEngine(one)

    @app.post("/analyze")
    def analyze() -> Reply:
        try:
            asked = AnalyzerRequest(request.get_json())
            if not asked.text or not asked.language:
                raise ValueError("No text or no language provided")
            one.get_supported_entities(asked.language)
            texts = asked.text if isinstance(asked.text, list) else [asked.text]
            found = many.analyze_iterator(
                texts=texts,
                batch_size=min(len(texts), 500),
                n_process=1,
                language=asked.language,
                correlation_id=asked.correlation_id,
                score_threshold=asked.score_threshold,
                entities=asked.entities,
                return_decision_process=asked.return_decision_process,
                ad_hoc_recognizers=asked.ad_hoc_recognizers,
                context=asked.context,
                allow_list=asked.allow_list,
                allow_list_match=asked.allow_list_match,
                regex_flags=asked.regex_flags,
            )
            for each in (result for results in found for result in results):
                vars(each).pop("recognition_metadata", None)
            answer = found if texts is asked.text else found[0]
            text = json.dumps(answer, default=lambda value: value.to_dict(), sort_keys=True)
            return Response(text, content_type="application/json")
        except Exception as error:
            log.error("not analyzed: %s", error)
            return jsonify(error=str(error)), 400 if isinstance(error, TypeError) else 500


def anonymizer(app: Flask) -> None:
    import presidio_anonymizer
    from presidio_anonymizer.entities import InvalidParamError
    from presidio_anonymizer.services import app_entities_convertor

    anonymizing: Any = presidio_anonymizer  # it ships few types
    convertor: Any = app_entities_convertor.AppEntitiesConvertor
    masking = anonymizing.AnonymizerEngine()

    @app.post("/anonymize")
    def anonymize() -> Response:
        asked = request.get_json()
        if not asked:
            raise BadRequest("Invalid request json")
        operators = convertor.operators_config_from_json(asked.get("anonymizers"))
        if convertor.check_custom_operator(operators):
            raise BadRequest("Custom type anonymizer is not supported")
        answer = masking.anonymize(
            text=asked.get("text", ""),
            analyzer_results=convertor.analyzer_results_from_json(asked.get("analyzer_results")),
            operators=operators,
        )
        return Response(answer.to_json(), mimetype="application/json")

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Reply:
        log.error("not anonymized: %s", error)
        return jsonify(error=str(error)), 422 if isinstance(error, InvalidParamError) else 500


def create_app(kind: str) -> Flask:
    """Return the app for gunicorn's worker. It is called in the worker, which ends with gunicorn, however that ends."""
    end_with_parent(signal.SIGTERM)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s - %(name)s - %(levelname)s - %(message)s"
    )
    app = Flask(__name__)
    if kind == "anonymizer":
        anonymizer(app)
    else:
        analyzer(app, names=kind == "analyzer")

    @app.get("/health")
    def health() -> str:
        return "up"

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Reply:
        return jsonify(error=error.description), error.code or 500

    return app


def main(kind: str, port: int) -> None:
    """Become gunicorn, called as the images call it. It never returns."""
    end_with_parent(signal.SIGTERM)
    called = ["gunicorn", "-w", "1", "-b", f"127.0.0.1:{port}", f"bench.presidio_server:create_app({kind!r})"]
    os.execv(sys.executable, [sys.executable, "-m", *called])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
