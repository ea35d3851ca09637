"""Proxies, certificates and the hub's address, as the environment sets them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from judges.chat_server import Server, judge_at
from negrefine import HFJudge
from negrefine.connections import connection_settings
from negrefine.encoders.loading import load_encoder
from negrefine.errors import EncoderError, InputError, JudgeError, NegrefineError
from negrefine.judges.base import Query

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

SETTINGS = {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
UNUSABLE = [
    "http://127.0.0.1:9",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:-1",
    "127.0.0.1:99999",
    "http://[::1",
    "foo://127.0.0.1:9",
    "socks5://127.0.0.1:9",
    "socks5h://127.0.0.1:9",
]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in SETTINGS | {"HF_ENDPOINT"}:
            monkeypatch.delenv(name)


@pytest.mark.parametrize("proxy", UNUSABLE)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
def test_an_unusable_proxy_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    with pytest.raises((InputError, JudgeError)) as caught:
        judge_at(server.url).is_proper_noun(["a"])
    said = str(caught.value)
    assert "cannot be reached" in said
    assert f". The environment has {name}={proxy}: correct or unset them, or add the host" in said
    assert "TaskGroup" not in said
    assert said.endswith(".")
    assert ".." not in said
    assert not server.asked


@pytest.mark.parametrize("proxy", UNUSABLE)
@pytest.mark.parametrize("hosts", ["127.0.0.1", "*", "example.com, 127.0.0.1"])
def test_a_proxy_that_is_not_for_the_server_does_not_matter(
    server: Server, monkeypatch: pytest.MonkeyPatch, proxy: str, hosts: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", hosts)
    assert len(judge_at(server.url).is_proper_noun(["a"])) == 1
    monkeypatch.setenv("NO_PROXY", "example.com")
    with pytest.raises(NegrefineError, match="The environment has ALL_PROXY="):
        judge_at(server.url, max_retries=0).is_proper_noun(["a"])


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:PASSW0RD@127.0.0.1:9",
        "http://user:PASS/W0RD@127.0.0.1:9",
        "http://user:PASS@//W0RD@127.0.0.1:9",
        "user:PASS/W0RD@127.0.0.1:9",
        "user:PASS//W0RD@127.0.0.1:99999",
        "socks5://user:PASS/W0RD@127.0.0.1:9",
    ],
)
def test_the_password_of_a_proxy_is_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(NegrefineError, match=r"ALL_PROXY=(\w+://)?127\.0\.0\.1:9") as of_server:
        judge_at(server.url).is_proper_noun(["a"])
    for said in (str(of_server.value), connection_settings("https://hub/", ValueError())):
        assert "PASS" not in said
        assert "W0RD" not in said


def test_only_certificates_that_matter_are_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert connection_settings() == ""
    monkeypatch.setenv("HTTP_PROXY", "")
    assert connection_settings() == ""
    missing = str(tmp_path / "none.pem")
    monkeypatch.setenv("SSL_CERT_FILE", missing)
    told = f" The environment has SSL_CERT_FILE={missing}: correct or unset them."
    assert connection_settings() == told
    with pytest.raises(InputError, match=r"cannot be reached with these settings.*none\.pem"):
        judge_at(server.url).is_proper_noun(["a"])
    other = tmp_path / "text.pem"
    other.write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert connection_settings() == ""
    with pytest.raises(InputError, match=r"SSL_CERT_FILE=.*text\.pem"):
        judge_at(server.url).is_proper_noun(["a"])


@pytest.mark.parametrize("url", ["nonsense", "", "ftp://hub", "http://", "http://me:PASSW0RD@"])
def test_an_address_of_the_hub_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    sentence = "The environment has HF_ENDPOINT=.*, which is no address of a model hub: unset it"
    with pytest.raises(EncoderError, match=sentence) as caught:
        load_encoder("nobody/nothing")
    assert "PASSW0RD" not in str(caught.value)
    with pytest.raises(InputError, match=sentence):
        list(HFJudge("nobody/nothing", store=None).iter_answers([Query("a")]))
