"""A small hub: the parts of its HTTP interface that pushing and fetching a detector use.

A process of its own, with nothing but the standard library: `python fake_hub.py FILE` listens on a
free port of the loopback interface and writes its address to FILE. Repositories are in memory.

Besides the hub's routes there are some for tests, below /test/: POST /test/put/USER/NAME commits
the files of a JSON object {name: base64} and nothing else; POST /test/files answers with such an
object; GET /test/log lists the requests so far; POST /test/behave sets how it misbehaves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_WriteTokenOfAnn42"  # noqa: S105
READ_TOKEN = "hf_ReadTokenOfBob57"  # noqa: S105


@dataclass
class Repo:
    private: bool = False
    # Commit to {name: content}, in order.
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        # Another number for each commit, also of the same files.
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(str(len(self.commits)).encode())
        for name, content in sorted(files.items()):
            digest.update(name.encode() + content)
        self.commits[digest.hexdigest()] = dict(files)
        self.branches[branch] = digest.hexdigest()
        return digest.hexdigest()


class State:
    """What the hub holds; `behave` has "status" for every request and "ends_early" for files."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[str] = []
        self.behave: dict[str, Any] = {}
        self.lock = threading.Lock()


def is_large(name: str) -> bool:
    return name.endswith(".safetensors")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        with self.state.lock:
            if path.startswith("/test/"):
                self._test(path, body)
                return
            self.state.log.append(f"{self.command} {path}")
            status = self.state.behave.get("status")
            if status:
                said = f"Not now, {self.headers.get('Authorization')}"
                self._error(status, "Broken", said)
                return
            self._route(path, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _test(self, path: str, body: bytes) -> None:
        if path == "/test/log":
            self._json(self.state.log)
        elif path == "/test/behave":
            self.state.behave = json.loads(body)
            self._json({})
        elif path == "/test/files":
            repo = self.state.repos[json.loads(body)]
            files = repo.commits[repo.branches["main"]]
            self._json({key: base64.b64encode(value).decode() for key, value in files.items()})
        else:
            name = path.removeprefix("/test/put/")
            files = {key: base64.b64decode(value) for key, value in json.loads(body).items()}
            commit = self.state.repos.setdefault(name, Repo()).commit(files)
            self._json({"commit": commit})

    def _route(self, path: str, body: bytes) -> None:
        routes = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda _: self._json({"errors": [], "warnings": []}),
            r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?": self._info,
            r"/api/models/([^/]+/[^/]+)/preupload/(.+)": self._preupload,
            r"/api/models/([^/]+/[^/]+)/commit/(.+)": self._commit,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
            r"/objects/([0-9a-f]{64})": self._object,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self._resolve,
        }
        for pattern, route in routes.items():
            if match := re.fullmatch(pattern, path):
                route(body, *match.groups())
                return
        self._error(404, "NotFound", f"no route {path}")

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _repo(self, name: str) -> Repo | None:
        """Return a repository that the token may see; answer like the hub where there is none."""
        repo = self.state.repos.get(name)
        if repo is None or (repo.private and self._token not in {TOKEN, READ_TOKEN}):
            # The hub tells nobody whether a repository is private.
            status = 404 if self._token else 401
            self._error(status, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _at(self, name: str, revision: str | None) -> tuple[Repo, str, str] | None:
        repo = self._repo(name)
        if repo is None:
            return None
        branch = revision or "main"
        commit = repo.branches.get(branch, branch)
        if commit not in repo.commits:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            return None
        return repo, branch, commit

    def _may_write(self) -> bool:
        if not self._token:
            self._error(401, None, "Invalid username or password.")
        elif self._token != TOKEN:
            self._error(403, None, f"You don't have the rights with {self._token}")
        return self._token == TOKEN

    def _create(self, body: bytes) -> None:
        if not self._may_write():
            return
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.state.repos:
            self._error(409, None, "You already created this model repo")
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repo = self.state.repos[name] = Repo(private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self._json({"url": f"{self._base}/{name}", "name": name})

    def _info(self, body: bytes, name: str, revision: str | None = None) -> None:
        del body
        found = self._at(name, revision)
        if found is None:
            return
        repo, _, commit = found
        with_sizes = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = [
            {"rfilename": file, **({"size": len(content)} if with_sizes else {})}
            for file, content in repo.commits[commit].items()
        ]
        facts = {"id": name, "sha": commit, "private": repo.private, "siblings": siblings}
        self._json({**facts, "tags": [], "downloads": 0, "likes": 0})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if not self._may_write() or self._at(name, revision) is None:
            return
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if is_large(each["path"]) else "regular",
                "shouldIgnore": False,
            }
            for each in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        if not self._may_write() or self._repo(name) is None:
            return
        objects = [
            {
                **each,
                "actions": {"upload": {"href": f"{self._base}/objects/{each['oid']}"}},
            }
            if each["oid"] not in self.state.objects
            else each
            for each in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _object(self, body: bytes, oid: str) -> None:
        if self._token:
            self.state.log.append("LEAK: a token came to the host of large files")
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                self._error(400, None, "the content is not what was announced")
                return
            self.state.objects[oid] = body
            self._send(200, b"")
            return
        self._file(self.state.objects[oid], {})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        found = self._at(name, revision) if self._may_write() else None
        if found is None:
            return
        repo, branch, head = found
        files = dict(repo.commits[head])
        for line in body.splitlines():
            each = json.loads(line)
            value = each["value"]
            if each["key"] == "header" and value.get("parentCommit", head) != head:
                self._error(412, None, "A commit has happened since. Please refresh and try again.")
                return
            if each["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                files[value["path"]] = self.state.objects[value["oid"]]
            elif each["key"] == "deletedFile":
                del files[value["path"]]
        commit = repo.commit(files, branch)
        self._json({"commitUrl": f"{self._base}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        del body
        found = self._at(name, revision)
        if found is None:
            return
        repo, _, commit = found
        content = repo.commits[commit].get(file)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        oid = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{oid[:40]}"'}
        if is_large(file):
            self.state.objects[oid] = content
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            # Large files are on another host, to which the token must not go.
            elsewhere = self._base.replace("127.0.0.1", "localhost")
            headers["Location"] = f"{elsewhere}/objects/{oid}"
            self._send(302, b"", headers)
        else:
            self._file(content, headers)

    def _file(self, content: bytes, headers: dict[str, str]) -> None:
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0] or 0)
        part = content[start:]
        headers = {"Content-Length": str(len(part)), **headers}
        self.send_response(206 if start else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        most = self.state.behave.get("ends_early")
        self.wfile.write(part if most is None else part[:most])
        if most is not None and most < len(part):
            self.close_connection = True

    @property
    def _base(self) -> str:
        return f"http://{self.headers['Host']}"

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, "Content-Type": "application/json"}
        if code is not None:
            headers["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    Handler.state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    file = Path(sys.argv[1])
    temporary = file.with_suffix(".new")
    temporary.write_text(f"http://127.0.0.1:{server.server_port}")
    temporary.replace(file)
    server.serve_forever()


if __name__ == "__main__":
    main()
