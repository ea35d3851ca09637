"""The endpoints: scores, explanations, descriptions, health and metrics."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any, TypeAlias

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from negrefine.detectors import Explanation
from negrefine.encoders.images import use_scored
from negrefine.errors import ImageError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.report.card import draw_card, explanation_sentences
from negrefine.serving import schemas
from negrefine.serving.access import has_token, is_own_host
from negrefine.serving.batching import check_size
from negrefine.serving.gate import Gate
from negrefine.serving.hosted import Hosted, Served
from negrefine.serving.intake import Intake, check_readable
from negrefine.serving.metrics import CONTENT_TYPE, Metrics
from negrefine.serving.problems import Problem, json_response, shortened
from negrefine.serving.settings import Settings
from negrefine.serving.uploads import Upload

# Takes a detector, its rows, and how many images could not be read.
Note: TypeAlias = Callable[[Served, Sequence[ScoredImage], int], None]
_NAMES = (
    *("nearest_class", "similarity", "runner_up", "runner_up_similarity"),
    *("nearest_negative", "negative_similarity"),
)
# A card shows a picture in 420 pixels.
_CARD_PICTURE = (840, 840)


def add_endpoints(
    api: FastAPI,
    hosted: Hosted,
    intake: Intake,
    metrics: Metrics,
    settings: Settings,
    gate: Gate,
    page: Mapping[str, Response],
    note: Note,
) -> None:
    """Add all endpoints to an application; `note` is called with what was scored."""
    _add_work(api, hosted, intake, settings, note)
    _add_descriptions(api, hosted, settings)
    _add_health(api, hosted, metrics, settings, gate)

    def add(path: str, response: Response) -> None:
        async def file(request: Request) -> Response:
            tag = response.headers["ETag"]
            if request.headers.get("if-none-match") == tag:
                return Response(None, 304, {"ETag": tag, "Cache-Control": "no-cache"})
            return response

        api.add_api_route(path, file, include_in_schema=False)

    for path, response in page.items():
        add(path, response)
    collect = api.openapi
    setattr(api, "openapi", lambda: schemas.completed(collect(), settings.max_images))  # noqa: B010 - a method


def _add_work(api: FastAPI, hosted: Hosted, intake: Intake, settings: Settings, note: Note) -> None:
    @asynccontextmanager
    async def work(
        request: Request, detector: str | None, top: int | None
    ) -> AsyncIterator[tuple[Served, list[Upload], list[Any]]]:
        deadline = time.monotonic() + settings.deadline
        with _served(hosted, detector) as served:
            intake.check_room(served)
            async with intake.images(request, deadline) as images:
                yield served, images, await intake.results(request, served, images, top, deadline)

    statuses = schemas.refusals(400, 401, 403, 404, 408, 413, 415, 422, 503)

    @api.post(
        "/v1/score",
        summary="Score images",
        response_model=schemas.Scores,
        responses=statuses,
        openapi_extra=deepcopy(schemas.BODY),
    )
    async def score(request: Request, detector: str | None = None) -> Response:
        async with work(request, detector, None) as (served, images, results):
            scored = [each for each in results if isinstance(each, ScoredImage)]
            note(served, scored, len(results) - len(scored))
            check_readable(images, results)
            rows = [_row(*each, served) for each in zip(images, results, strict=True)]
            return _results(served, rows)

    @api.post(
        "/v1/explain",
        summary="Explain images",
        description="With 'Accept: image/png' and one image, the explanation as a picture.",
        response_model=schemas.Explanations,
        responses={200: {"content": {"image/png": {}}}, **statuses},
        openapi_extra=deepcopy(schemas.BODY),
    )
    async def explain(
        request: Request,
        detector: str | None = None,
        top: int = Query(5, ge=1, le=100, description="Class names and labels to list."),
    ) -> Response:
        async with work(request, detector, top) as (served, images, results):
            check_readable(images, results)
            if _wants_png(request):
                if len(images) > 1:
                    detail = "A card shows one image: send one, or ask for JSON."
                    raise Problem(422, "one-image", detail)
                draw = asyncio.get_running_loop().run_in_executor
                png = await draw(None, _card, served, images[0], results[0], settings.max_pixels)
                return Response(png, media_type="image/png")
            rows = [_explained(*each) for each in zip(images, results, strict=True)]
            return _results(served, rows)


def _add_descriptions(api: FastAPI, hosted: Hosted, settings: Settings) -> None:
    limits = {
        "bytes": settings.max_bytes,
        "images": settings.max_images,
        "pixels": settings.max_pixels,
    }

    @api.get(
        "/v1/detector",
        summary="Describe a detector",
        response_model=schemas.DetectorDescription,
        responses=schemas.refusals(401, 404, 422),
    )
    async def describe(detector: str | None = None) -> Response:
        with _served(hosted, detector) as served:
            return json_response({**served.description, "limits": limits})

    @api.get(
        "/v1/detectors",
        summary="Name the detectors",
        response_model=schemas.Detectors,
        responses=schemas.refusals(401, 422),
    )
    async def names() -> Response:
        return json_response({"default": hosted.names[0], "detectors": hosted.names})


def _add_health(
    api: FastAPI, hosted: Hosted, metrics: Metrics, settings: Settings, gate: Gate
) -> None:
    @api.get("/healthz", summary="Whether the process lives", response_model=dict[str, str])
    async def health() -> Response:
        return json_response({"status": "ok"})

    @api.get(
        "/readyz",
        summary="Whether it takes work",
        description="The detectors are named to those alone who have the token.",
        response_model=dict[str, Any],
        responses={503: {"description": "The server is stopping."}},
    )
    async def ready(request: Request) -> Response:
        content: dict[str, Any] = {"status": "stopping" if gate.stopping else "ready"}
        if has_token(request.headers, settings) and is_own_host(request.headers, settings):
            failed = set(hosted.failures())
            content["detectors"] = {
                each.name: {
                    "version": each.version,
                    "stale": each.name in failed,
                    "detail": "What is saved there now cannot be loaded, and an earlier version "
                    "serves; the log says why."
                    if each.name in failed
                    else None,
                }
                for each in hosted.now()
            }
        headers = {"Retry-After": "5"} if gate.stopping else {}
        return json_response(content, 503 if gate.stopping else 200, headers)

    @api.get("/metrics", summary="Metrics for Prometheus", include_in_schema=False)
    async def prometheus() -> Response:
        # Monitors may have to compute.
        text = await asyncio.get_running_loop().run_in_executor(None, metrics.text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})


@contextmanager
def _served(hosted: Hosted, name: str | None) -> Iterator[Served]:
    with hosted.use(name) as served:
        if served is None:
            raise Problem(
                404,
                "detector",
                f"There is no detector {shortened(name or '', 100)!r}: /v1/detectors names them.",
            )
        yield served


def _results(served: Served, rows: list[dict[str, Any]]) -> Response:
    content = {"detector": served.name, "version": served.version, "results": rows}
    return json_response(content)


def _row(image: Upload, result: ScoredImage | ImageError, served: Served) -> dict[str, Any]:
    error = str(result) if isinstance(result, ImageError) else None
    row = ScoredImage("", None) if isinstance(result, ImageError) else result
    return {
        "name": image.given_name,
        "score": row.score,
        "parts": row.parts,
        "p_value": row.p_value,
        "verdict": row.verdict,
        "threshold": None if error else _threshold(row, served),
        **{name: getattr(row, name) for name in _NAMES},
        "error": error,
    }


def _threshold(row: ScoredImage, served: Served) -> float | None:
    return served.detector.offset_ if row.threshold is None else row.threshold


def _explained(image: Upload, result: Explanation | ImageError) -> dict[str, Any]:
    if isinstance(result, ImageError):
        return {"name": image.given_name, "error": str(result)}
    return {
        "name": image.given_name,
        "headline": result.headline(),
        "sentences": explanation_sentences(result),
        **result.as_dict(),
        "error": None,
    }


def _wants_png(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower()
    kinds = [each.partition(";")[0].strip() for each in accepted.split(",")]
    return "image/png" in kinds and "application/json" not in kinds


def _card(served: Served, upload: Upload, explanation: Explanation, max_pixels: int) -> bytes:
    """Return the card of an explanation as PNG."""

    def shrunk(image: Any) -> Any:
        image.thumbnail(_CARD_PICTURE)
        return image.copy()

    def bytes_of_use(size: tuple[int, int]) -> int:
        check_size(upload.name, size, max_pixels)
        return 3 * _CARD_PICTURE[0] * _CARD_PICTURE[1]

    picture = use_scored(served.worker.encoder, upload, shrunk, bytes_of_use)
    buffer = io.BytesIO()
    draw_card(explanation, picture, upload.name).save(buffer, "PNG")
    return buffer.getvalue()
