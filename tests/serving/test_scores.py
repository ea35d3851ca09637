"""Scores, explanations and descriptions through HTTP are those of the detectors."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from conftest import CLASS_NAMES
from negrefine import Detector
from negrefine.evaluation.scored_image import score_rows
from negrefine.serving.run import open_socket
from serving.processes import JSON, Server

Pictures = list[tuple[str, bytes]]
Hosted = tuple[Path, dict[str, Detector]]


def scores_of(answer: Any) -> list[float]:
    return [row["score"] for row in answer.json["results"]]


def test_scores_do_not_depend_on_what_else_is_in_a_batch(
    server: Server, hosted: Hosted, pictures: Pictures
) -> None:
    detectors = hosted[1]
    expected = {
        name: detector.score_samples([data for _, data in pictures])
        for name, detector in detectors.items()
    }
    before = server.metrics()
    # Requests of 1 to 5 images, in turn for each detector, all at the same time.
    jobs = []
    for turn in range(4):
        start = turn
        for size in (1, 2, 3, 4, 5):
            names = list(detectors)
            jobs.append((names[(turn + size) % 3], start, min(start + size, len(pictures))))
            start += size

    def ask(job: tuple[str, int, int]) -> tuple[list[float], str]:
        name, start, end = job
        answer = server.post(f"/v1/score?detector={name}", pictures[start:end])
        assert answer.status == 200, answer
        assert answer.json["detector"] == name
        assert [row["name"] for row in answer.json["results"]] == [
            given for given, _ in pictures[start:end]
        ]
        return scores_of(answer), name

    with ThreadPoolExecutor(len(jobs)) as pool:
        for job, (scores, name) in zip(jobs, pool.map(ask, jobs), strict=True):
            np.testing.assert_allclose(scores, expected[name][job[1] : job[2]], rtol=0, atol=1e-6)
    after = server.metrics()
    n_images = sum(end - start for _, start, end in jobs)
    n_batches = after["negrefine_batch_images_count"] - before["negrefine_batch_images_count"]
    n_encoded = after["negrefine_batch_images_sum"] - before["negrefine_batch_images_sum"]
    assert n_encoded == n_images
    assert n_batches < len(jobs) / 2
    assert after["negrefine_encoders"] == 2
    assert after["negrefine_queue_images"] == 0
    assert after["negrefine_bodies_bytes"] == 0


@pytest.mark.parametrize("name", ["refined", "csp", "local"])
def test_a_row_is_what_score_has_and_json_is_a_form(
    server: Server, hosted: Hosted, pictures: Pictures, name: str
) -> None:
    detector = hosted[1][name]
    data = [each for _, each in pictures[:3]]
    if detector.uses_patches:
        patched: Any = detector.encoder
        rows = score_rows(detector, *patched.encode_images_and_patches(data))
    else:
        rows = score_rows(detector, detector.encoder.encode_images(data))
    names = ["a.png", "\u202egnp.exe\x1b[2J <b>é 🦊", ""]
    given = list(zip(names, data, strict=True))
    encoded = [{"name": n, "data": base64.b64encode(each).decode()} for n, each in given]
    answers = [
        server.ask(
            f"/v1/score?detector={name}", json.dumps({"images": encoded}).encode(), headers=JSON
        ),
        server.post(f"/v1/score?detector={name}", given),
    ]
    for answer in answers:
        assert answer.status == 200, answer
        assert b"\xe2\x80\xae" not in answer.body
        assert b"\x1b" not in answer.body
        for row, expected, image_name in zip(answer.json["results"], rows, names, strict=True):
            assert row.pop("name") == image_name
            assert row.pop("error") is None
            in_force = detector.offset_ if expected.threshold is None else expected.threshold
            assert row.pop("threshold") == in_force
            assert row.pop("score") == pytest.approx(expected.score, abs=1e-6)
            parts = row.pop("parts")
            assert parts == pytest.approx(expected.parts, abs=1e-6)
            for key in ("similarity", "runner_up_similarity", "negative_similarity"):
                assert row.pop(key) == pytest.approx(getattr(expected, key), abs=1e-6)
            assert row == {
                key: getattr(expected, key)
                for key in ("p_value", "verdict", "nearest_class", "runner_up", "nearest_negative")
            }


def test_an_image_that_cannot_be_read_costs_its_row(server: Server, pictures: Pictures) -> None:
    before = server.metrics()["negrefine_unreadable_images_total"]
    cut = ("cut.png", pictures[0][1][:200])
    answer = server.post("/v1/score", [pictures[0], cut, ("empty.png", b""), pictures[1]])
    assert answer.status == 200
    good, broken, empty, last = answer.json["results"]
    assert good["error"] is last["error"] is None
    assert broken["error"].startswith("cut.png: the image is damaged, cut short")
    assert empty["error"].startswith("empty.png: the file is empty")
    assert broken.pop("parts") == {}
    assert {value for key, value in broken.items() if key not in ("name", "error")} == {None}
    answer = server.post("/v1/score", [cut, ("nothing", b"text " * 20)])
    assert answer.problem() == (422, "unreadable")
    assert [each["name"] for each in answer.json["errors"]] == ["cut.png", "nothing"]
    assert answer.json["errors"][1]["error"].startswith("nothing: is not an image")
    assert server.metrics()["negrefine_unreadable_images_total"] == before + 4


def test_explanations_are_those_of_the_detector(
    server: Server, hosted: Hosted, pictures: Pictures
) -> None:
    detector = hosted[1]["refined"]
    answer = server.post("/v1/explain?top=3&detector=refined", [pictures[2], ("no", b"no")])
    assert answer.status == 200
    first, second = answer.json["results"]
    expected = detector.explain(pictures[2][1], top=3, unfiltered=True)
    assert first["headline"] == expected.headline()
    assert first["score"] == pytest.approx(expected.score, abs=1e-6)
    assert [each["text"] for each in first["classes"]] == [m.text for m in expected.classes]
    assert [each["text"] for each in first["negatives"]] == [m.text for m in expected.negatives]
    assert expected.pair is not None
    assert first["pair"]["text"] == expected.pair.text
    assert any(expected.pair.text in sentence for sentence in first["sentences"])
    assert first["unfiltered"]["n_removed"] == expected.unfiltered.n_removed
    assert second == {"name": "no", "error": second["error"]}
    for query in ("top=0", "top=101", "top=x", "top=-1", "top=", "top=1&top=2", "tpo=3"):
        answer = server.post(f"/v1/explain?{query}", [pictures[2]])
        assert answer.problem() == (422, "parameter")
        assert f"'{query[:3]}'" in answer.json["detail"]
    for query in (
        "top=3",
        "detectr=csp",
        "detector=csp&detector=csp",
        "%00\u202e=",
        "&".join("abc" * 999),
    ):
        assert server.post(f"/v1/score?{quote(query, '=&')}", pictures[:1]).problem() == (
            422,
            "parameter",
        )


def test_a_card_is_a_picture(server: Server, pictures: Pictures) -> None:
    png = {"Accept": "image/png"}
    answer = server.post("/v1/explain", pictures[:1], **png)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    card = Image.open(io.BytesIO(answer.body))
    assert card.width == 1200
    assert len(set(card.convert("RGB").resize((60, 40)).get_flattened_data())) > 50
    assert server.post("/v1/explain", pictures[:2], **png).problem() == (422, "one-image")
    assert server.post("/v1/explain", [("no", b"no")], **png).problem() == (422, "unreadable")


def test_detectors_are_described(server: Server, hosted: Hosted) -> None:
    answer = server.ask("/v1/detectors")
    assert answer.json == {"default": "refined", "detectors": ["refined", "csp", "local"]}
    for name, detector in hosted[1].items():
        content = server.ask(f"/v1/detector?detector={name}").json
        assert content["classes"] == CLASS_NAMES
        assert content["method"] == detector.method
        assert content["identity"] == detector.identity()
        assert content["threshold"] == detector.offset_
        assert content["fpr"] == detector.fpr_
        assert content["builtin"] is True
        assert content["encoder"]["fingerprint"] == detector.encoder.fingerprint
        assert content["limits"] == {"bytes": 32 << 20, "images": 32, "pixels": 50_000_000}
        assert content["by"] == detector.by_
        if detector.fpr_ is None:
            assert content["groups"] is content["thresholds"] is None
            continue
        groups = detector.threshold_groups()
        assert [each["kind"] for each in content["groups"]] == [each.kind for each in groups]
        for group, expected in zip(content["groups"], groups, strict=True):
            assert group["classes"] == list(expected.classes)
            assert (group["n"], group["rank"]) == (expected.n, expected.rank)
            assert group["threshold"] == expected.threshold
            for index in expected.classes if detector.by_ else ():
                assert content["thresholds"][CLASS_NAMES[index]] == expected.threshold
    assert server.ask("/v1/detector").json["name"] == "refined"
    answer = server.ask("/v1/detector?detector=nothing")
    assert answer.problem() == (404, "detector")
    assert server.post("/v1/score?detector=x", []).problem() == (404, "detector")


def test_the_interface_is_described_with_examples(server: Server) -> None:
    content = server.ask("/openapi.json").json
    assert set(content["paths"]) == {
        *("/v1/score", "/v1/explain", "/v1/detector", "/v1/detectors", "/healthz", "/readyz"),
    }
    body = content["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    for each in body.values():
        images = each["schema"]["properties"]["images"]
        assert (images["minItems"], images["maxItems"]) == (1, 32)
    example = body["application/json"]["example"]
    answer = server.ask("/v1/score", json.dumps(example).encode(), headers=JSON)
    assert answer.status == 200
    assert set(answer.json["results"][0]) == set(
        content["components"]["schemas"]["Row"]["properties"]
    )
    described = content["components"]["schemas"]["DetectorDescription"]["properties"]
    assert set(server.ask("/v1/detector").json) == set(described)
    schemas = content["components"]["schemas"]
    text = json.dumps(content)
    for name in set(text.split('"#/components/schemas/')[1:]):
        assert name.partition('"')[0] in schemas


def test_metrics_count_verdicts_and_p_values(
    server: Server, hosted: Hosted, pictures: Pictures
) -> None:
    before = server.metrics()
    rows = server.post("/v1/score?detector=refined", pictures).json["results"]
    after = server.metrics()

    def gained(sample: str) -> float:
        return after.get(sample, 0) - before.get(sample, 0)

    flagged = sum(row["verdict"] == "OOD" for row in rows)
    assert 0 < flagged < 24
    assert gained('negrefine_verdicts_total{detector="refined",verdict="OOD"}') == flagged
    assert gained('negrefine_verdicts_total{detector="refined",verdict="ID"}') == 24 - flagged
    assert gained('negrefine_p_value_count{detector="refined"}') == 24
    small = sum(row["p_value"] <= 0.2 for row in rows)
    assert gained('negrefine_p_value_bucket{detector="refined",le="0.2"}') == small
    assert gained('negrefine_requests_total{endpoint="/v1/score",status="200"}') == 1
    assert gained('negrefine_request_seconds_count{endpoint="/v1/score"}') == 1


def test_small_answers_wait_for_no_acknowledgement() -> None:
    # The end of an answer would wait 40 ms for the client to acknowledge its head.
    async def option() -> int:
        bound = open_socket("127.0.0.1", 0)
        accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.Future()
        server = await asyncio.start_server(lambda _, w: accepted.set_result(w), sock=bound)
        _, client = await asyncio.open_connection(*bound.getsockname())
        writer = await accepted
        taken = writer.get_extra_info("socket")
        found: int = taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for each in (client, writer, server):
            each.close()
        return found

    assert asyncio.run(option())
