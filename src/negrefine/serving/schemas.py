"""The shapes of requests and answers, as /openapi.json describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

# An orange square.
_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElE"
    "QVR4nGM8UaHBgA0wYRUdtBIAHicBeAYWg8oAAAAASUVORK5CYII="
)


class Image(BaseModel):
    """An image in JSON."""

    name: str = Field(description="What answers and errors call it.", examples=["a.png"])
    data: str = Field(description="The bytes of the file, in base64.", examples=[_PICTURE])


class Images(BaseModel):
    """A body of JSON."""

    images: list[Image] = Field(min_length=1)


class Row(BaseModel):
    """What is known of one image; all but `name` are null where `error` is not."""

    name: str = Field(description="As the client gave it.")
    score: float | None = Field(description="Larger means more in-distribution.")
    parts: dict[str, float] = Field(description="The components of the score.")
    p_value: float | None = Field(description="Conformal, small means out-of-distribution.")
    verdict: Literal["ID", "OOD"] | None = Field(description="Null without a threshold.")
    threshold: float | None = Field(description="That the score was compared with.")
    nearest_class: str | None
    similarity: float | None = Field(description="Cosine with it.")
    runner_up: str | None
    runner_up_similarity: float | None
    nearest_negative: str | None
    negative_similarity: float | None
    error: str | None = Field(description="Why the image could not be read.")


class Scores(BaseModel):
    """The answer of /v1/score, rows in the order of the images."""

    detector: str
    version: str = Field(description="Of the saved detector that scored all of them.")
    results: list[Row]


class Explained(BaseModel):
    """What decided one image."""

    model_config = {"extra": "allow"}

    name: str
    headline: str | None = None
    sentences: list[str] | None = None
    error: str | None = None


class Explanations(BaseModel):
    """The answer of /v1/explain."""

    detector: str
    version: str
    results: list[Explained]


class Group(BaseModel):
    """Classes that share a threshold: an image is flagged if its p-value is <= rank / (n + 1)."""

    kind: Literal["all", "class", "pooled"]
    classes: list[int] = Field(description="Indices of class names.")
    n: int
    rank: int
    threshold: float


class Limits(BaseModel):
    """What a request may have."""

    bytes: int
    images: int
    pixels: int = Field(description="Of one image.")


class DetectorDescription(BaseModel):
    """What a detector is."""

    model_config = {"extra": "allow"}

    name: str
    method: str
    title: str
    paper: str
    classes: list[str]
    n_negatives: int | None
    n_removed: int | None
    left_out: str | None = Field(description="What was not mined for being rare.")
    tuned: str | None = Field(description="Parameters that a validation set has chosen.")
    threshold: float | None = Field(description="Of all calibration images.")
    fpr: float | None = Field(description="The false-alarm rate that it was set for.")
    delta: float | None
    by: str | None
    thresholds: dict[str, float] | None = Field(description="By class, with by='class'.")
    groups: list[Group] | None = Field(description="Classes that share a threshold.")
    n_calibration: int | None
    encoder: dict[str, str]
    identity: str
    version: str
    parameters: dict[str, Any]
    builtin: bool = Field(description="The encoder is the toy that knows no photographs.")
    limits: Limits


class Detectors(BaseModel):
    """Names of the detectors."""

    default: str
    detectors: list[str]


class ProblemDetails(BaseModel):
    """A refusal, RFC 9457."""

    model_config = {"extra": "allow"}

    type: str = Field(examples=["urn:negrefine:problem:queue-full"])
    title: str
    status: int
    detail: str = Field(description="One sentence: what, where, what to do.")


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            "application/json": {
                "schema": Images.model_json_schema(ref_template="#/components/schemas/{model}"),
                "example": {"images": [{"name": "a.png", "data": _PICTURE}]},
            },
        },
    }
}
BODY["requestBody"]["content"]["application/json"]["schema"].pop("$defs")

_REFUSALS = {
    400: "The body or a header is malformed.",
    401: "The token is missing or wrong.",
    403: "A page of another site sent the request.",
    404: "There is no such detector.",
    408: "The body arrived too slowly.",
    413: "The body is too large, or has too many images.",
    415: "The body is neither a form nor JSON.",
    422: "No image can be read, or a parameter is wrong.",
    503: "The server is overloaded or stopping; Retry-After says when to try again.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of answers that are problems."""
    return {
        status: {
            "description": _REFUSALS[status],
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/ProblemDetails"}
                }
            },
        }
        for status in statuses
    }


def completed(content: dict[str, Any], max_images: int) -> dict[str, Any]:
    """Add the models that FastAPI does not collect, and how many images a request may have."""
    for model in (Image, ProblemDetails):
        content["components"]["schemas"].setdefault(model.__name__, model.model_json_schema())
    for path in content["paths"].values():
        bodies = path.get("post", {}).get("requestBody", {}).get("content", {})
        for body in bodies.values():
            body["schema"]["properties"]["images"]["maxItems"] = max_images
    return content
