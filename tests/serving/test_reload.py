"""A detector that is saved again is served again, and no request notices."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import CLASS_NAMES
from negrefine import MCM, Detector, load_detector, load_encoder
from negrefine.detectors.bundle import MANIFEST, version_of
from negrefine.encoders import CLIPEncoder
from serving.conftest import served
from serving.processes import Server, Zygote, wait_until

Pictures = list[tuple[str, bytes]]
Hosted = tuple[Path, dict[str, Detector]]


@pytest.fixture(scope="module")
def place(hosted: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with detectors of our own."""
    root = tmp_path_factory.mktemp("reloaded-place")
    for name in hosted[1]:
        shutil.copytree(hosted[0] / name, root / name)
    return root


@pytest.fixture(scope="module")
def changing(zygote: Zygote, place: Path) -> Iterator[Server]:
    yield from served(zygote, place, NEGREFINE_TOKEN="")


def test_no_request_is_lost_while_detectors_are_replaced(
    changing: Server, place: Path, hosted: Hosted, pictures: Pictures
) -> None:
    images = pictures[:2]
    data = [each for _, each in images]
    versions = {version_of(place / "refined"): hosted[1]["refined"].score_samples(data)}
    stop, answers, failures = threading.Event(), [], []

    def ask() -> None:
        try:
            while not stop.is_set():
                answers.append(changing.post("/v1/score", images))
        except Exception as error:
            failures.append(error)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    changed = load_detector(place / "refined", hosted[1]["refined"].encoder)
    # Another formula, another method, and another encoder.
    others: list[Detector] = [
        changed.with_params(alpha=0.5),
        MCM(changed.encoder).fit(CLASS_NAMES),
        MCM(load_encoder("builtin", device="cpu", resample="lanczos")).fit(CLASS_NAMES),
    ]
    for other in others:
        other.save(place / "refined")
        version = version_of(place / "refined")
        versions[version] = other.score_samples(data)
        wait_until(lambda version=version: changing.ask("/v1/detector").json["version"] == version)
        n_answers = len(answers)
        wait_until(lambda n=n_answers: failures or len(answers) > n + 8)
    stop.set()
    for client in clients:
        client.join()
    assert failures == []
    assert {answer.status for answer in answers} == {200}
    seen = {answer.json["version"] for answer in answers}
    assert seen == set(versions)
    for answer in answers:
        content = answer.json
        scores = [row["score"] for row in content["results"]]
        np.testing.assert_allclose(scores, versions[content["version"]], rtol=0, atol=1e-6)
    samples = changing.metrics()
    assert samples['negrefine_reloads_total{detector="refined",result="ok"}'] == 3
    assert samples["negrefine_encoders"] == 3
    assert changing.err.read_text().count("The detector 'refined' was loaded again") == 3


def test_a_damaged_detector_leaves_the_earlier_one_serving(
    changing: Server, place: Path, hosted: Hosted, pictures: Pictures
) -> None:
    version = version_of(place / "csp")
    stale = 'negrefine_detector_stale{detector="csp"}'
    manifest = (place / "csp" / MANIFEST).read_bytes()
    (place / "csp" / MANIFEST).write_bytes(manifest[:-40])
    wait_until(lambda: changing.metrics().get(stale) == 1)
    answer = changing.ask("/readyz")
    assert answer.status == 200
    state = answer.json["detectors"]["csp"]
    assert (state["version"], state["stale"]) == (version, True)
    assert "the log says why" in state["detail"]
    assert answer.json["detectors"]["local"]["stale"] is False
    answer = changing.post("/v1/score?detector=csp", pictures[:2])
    assert answer.json["version"] == version
    expected = hosted[1]["csp"].score_samples([data for _, data in pictures[:2]])
    scores = [row["score"] for row in answer.json["results"]]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert changing.metrics()['negrefine_reloads_total{detector="csp",result="failed"}'] == 1
    log = changing.err.read_text()
    assert log.count("'csp' was replaced by one that cannot be loaded, and the earlier one") == 1
    assert "is damaged (detector.json cannot be read" in log
    # A detector whose encoder is not there is no better; each reason is told once.
    shutil.rmtree(place / "csp")
    wait_until(lambda: "holds no saved detector" in changing.err.read_text())
    hosted[1]["csp"].save(place / "csp")
    wait_until(lambda: changing.metrics()[stale] == 0)
    assert changing.ask("/readyz").json["detectors"]["csp"] == {
        "version": version,
        "stale": False,
        "detail": None,
    }


def test_an_encoder_that_is_gone_is_told(
    changing: Server, place: Path, builtin_dir: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_dir, model)
    detector = MCM(load_encoder(model, device="cpu", background=None)).fit(CLASS_NAMES)
    hidden = tmp_path / "staged"
    detector.save(hidden)
    shutil.rmtree(model)
    before = changing.ask("/v1/detector?detector=local").json
    shutil.rmtree(place / "local")
    hidden.rename(place / "local")
    wait_until(lambda: "the encoder of the detector" in changing.err.read_text().lower())
    assert changing.ask("/v1/detector?detector=local").json == before


def test_a_log_that_nobody_takes_ends_nothing(
    zygote: Zygote, hosted: Hosted, tmp_path: Path, pictures: Pictures
) -> None:
    place = tmp_path / "own"
    shutil.copytree(hosted[0] / "refined", place)
    full = 'import os; os.dup2(os.open("/dev/full", os.O_WRONLY), 2)'
    server = zygote.start(place, prelude=full, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    # The second is not found if the line about the first has ended the search.
    for other in ("csp", "refined"):
        shutil.rmtree(place)
        shutil.copytree(hosted[0] / other, place)
        version = version_of(place)
        wait_until(lambda version=version: server.ask("/v1/detector").json["version"] == version)
    assert server.post("/v1/score", pictures[:1]).status == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_an_encoder_that_moved_is_named(
    zygote: Zygote, builtin_dir: Path, tmp_path: Path, pictures: Pictures
) -> None:
    model, moved = tmp_path / "model", tmp_path / "moved"
    shutil.copytree(builtin_dir, model)
    detector = MCM(load_encoder(model, device="cpu")).fit(CLASS_NAMES)
    detector.save(tmp_path / "one")
    detector.with_params(temperature=2.0).save(tmp_path / "two")
    model.rename(moved)
    server = zygote.start(tmp_path / "one", tmp_path / "two", "--encoder", moved)
    server.wait_until_ready()
    assert server.post("/v1/score?detector=two", pictures[:1]).status == 200
    assert server.metrics()["negrefine_encoders"] == 1
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_names_of_model_folders_stay_on_the_server(
    changing: Server, place: Path, builtin_dir: Path, tmp_path: Path, builtin_encoder: CLIPEncoder
) -> None:
    model = tmp_path / "kept-apart" / "model"
    shutil.copytree(builtin_dir, model)
    detector = MCM(load_encoder(model, device="cpu", background=None)).fit(CLASS_NAMES)
    shutil.rmtree(place / "local")
    detector.save(place / "local")
    version = version_of(place / "local")
    wait_until(lambda: changing.ask("/v1/detector?detector=local").json["version"] == version)
    answer = changing.ask("/v1/detector?detector=local")
    assert answer.json["encoder"]["name"] == "model"
    assert answer.json["builtin"] is False
    assert b"kept-apart" not in answer.body
    assert builtin_encoder.fingerprint != answer.json["encoder"]["fingerprint"]
