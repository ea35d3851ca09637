"""What the surroundings of a command can do to it: one sentence, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from commands import NEGREFINE
from negrefine import OpenAIJudge
from negrefine.connections import connection_settings
from negrefine.encoders.loading import load_encoder
from negrefine.errors import EncoderError, InputError


def test_without_a_home_directory(work: Workspace, tmp_path: Path) -> None:
    fit = ("fit", "--classes", work.classes, "--encoder", "builtin", "--method", "mcm")
    done = subprocess.run(
        [*NEGREFINE, *map(str, fit), "--out", str(tmp_path / "detector")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NEGREFINE_CACHE": "~nosuchuser/x"},
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("negrefine: warning: There is no home directory for the cache")
    assert line.endswith("No text embedding is kept.")


def test_a_path_of_an_unknown_user() -> None:
    with pytest.raises(EncoderError, match="'~nosuchuser/model' is not a directory"):
        load_encoder("~nosuchuser/model")


def test_proxies_are_named_without_their_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"} | {
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        }:
            monkeypatch.delenv(name)
    assert connection_settings() == ""
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080")
    with pytest.raises(InputError) as caught:
        OpenAIJudge("m", "http://127.0.0.1:9/v1", store=None).is_proper_noun(["paris"])
    assert "ALL_PROXY=socks5://127.0.0.1:1080" in str(caught.value)
    assert "socksio" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_fit_has_no_rate_without_images(quick: Any, work: Workspace, tmp_path: Path) -> None:
    fit = ("fit", "--classes", work.classes, "--encoder", "builtin", "--out", tmp_path / "d")
    for option in ("--fpr", "--delta"):
        assert f"{option} has no effect without --calibrate" in quick(*fit, option, 0.1).failed()


@pytest.mark.skipif(sys.platform == "win32", reason="looks at columns of a POSIX terminal")
def test_help_shows_groups_and_whole_summaries(quick: Any) -> None:
    text = quick("--help").out
    assert [line for line in text.splitlines() if line in {"Detect:", "Compare:", "More:"}]
    assert "..." not in text.partition("Detect:")[2]
