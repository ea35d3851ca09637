"""The server monitors what it scores, says alarms, and goes on after a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from negrefine import Detector
from serving.processes import Server, Zygote, wait_until

Pictures = list[tuple[str, bytes]]
Hosted = tuple[Path, dict[str, Detector]]
IMAGES = 'negrefine_monitor_images{detector="refined"}'
FLAG_ALARMS = 'negrefine_monitor_alarms{detector="refined",drift="flag share"}'


def end(server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_stream_of_odd_images_raises_an_alarm(
    zygote: Zygote, hosted: Hosted, pictures: Pictures, tmp_path: Path
) -> None:
    root, detectors = hosted
    scores = detectors["refined"].score_samples([data for _, data in pictures])
    odd = pictures[int(scores.argmin())]
    state = tmp_path / "deep" / "state"
    arguments = [root / "refined", root / "local", "--monitor-state", state]
    server = zygote.start(*arguments, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    samples = server.metrics()
    assert samples[IMAGES] == samples[FLAG_ALARMS] == 0
    assert not any("negrefine_monitor" in name and '"local"' in name for name in samples)
    assert samples['negrefine_monitor_promised_rate{detector="refined"}'] == pytest.approx(0.2)
    n = 0
    while "Alarm of the detector" not in server.err.read_text():
        answer = server.post("/v1/score", [odd] * 31 + [("no", b"no")])
        assert answer.json["results"][0]["verdict"] == "OOD"
        n += 31
        assert n < 1000
        wait_until(lambda n=n: server.metrics()[IMAGES] == n)
    samples = server.metrics()
    assert samples[FLAG_ALARMS] == 1
    assert samples['negrefine_monitor_flagged_share{detector="refined"}'] == 1
    assert "flag share: more images are flagged than calibration" in server.err.read_text()
    # Explanations are of images that were scored before.
    assert server.post("/v1/explain", [odd]).status == 200
    assert server.metrics()[IMAGES] == n
    end(server)
    (file,) = state.iterdir()
    assert file.name.startswith("refined-")
    again = zygote.start(*arguments, NEGREFINE_TOKEN="")
    again.wait_until_ready()
    samples = again.metrics()
    assert (samples[IMAGES], samples[FLAG_ALARMS]) == (n, 1)
    end(again)
    file.write_text(file.read_text().replace("0", "1"))
    damaged = zygote.start(*arguments, NEGREFINE_TOKEN="")
    assert damaged.wait() == 1
    assert "is damaged: remove it to count from the beginning." in damaged.err.read_text()
