"""A hub on the loopback address: the calls that a push and a pull make, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_secret"


class FakeHub(ThreadingHTTPServer):
    """Repositories by name: commits (newest last), each with all files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo][-1]

    def commit(self, repo: str, number: int = -1) -> str:
        place = range(len(self.repos[repo]))[number]
        return hashlib.sha1(f"{repo} {place}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, value: Any = None, content: bytes = b"", **headers: str) -> None:
        body = content if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
        self.server.asked.append(f"POST {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "repos"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.server.repos:
                return self._send(409, {"url": f"{self.server.url}/{repo}"})
            self.server.repos[repo] = [{}]
            if asked.get("visibility") == "private" or asked.get("private"):
                self.server.private.add(repo)
            return self._send(200, {"url": f"{self.server.url}/{repo}"})
        if parts[1] == "validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        repo, verb = "/".join(parts[2:4]), parts[4]
        if verb == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._send(
                200, {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
            )
        lines = [json.loads(line) for line in body.splitlines()]
        sent = [line["value"] for line in lines if line["key"] == "file"]
        added = {one["path"]: base64.b64decode(one["content"]) for one in sent}
        self.server.repos[repo].append({**self.server.files(repo), **added})
        return self._send(
            200, {"commitUrl": f"{self.server.url}/{repo}/commit/x", "commitOid": self.server.commit(repo, -1)}
        )

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        repo = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        if parts == [""]:
            return self._send(200)
        if repo not in self.server.repos:
            return self._send(404, X_Error_Code="RepoNotFound")
        if parts[0] == "api":
            told = {
                "id": repo,
                "private": repo in self.server.private,
                "sha": self.server.commit(repo, -1),
                "siblings": [],
            }
            return self._send(200, told)
        commits = {self.server.commit(repo, i): files for i, files in enumerate(self.server.repos[repo])}
        commits["main"] = self.server.files(repo)
        if parts[3] not in commits:
            return self._send(404, X_Error_Code="RevisionNotFound")
        commit = self.server.commit(repo, -1) if parts[3] == "main" else parts[3]
        content = commits[parts[3]].get("/".join(parts[4:]))
        if content is None:
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        etag = hashlib.sha1(content).hexdigest()
        return self._send(200, content=content, ETag=f'"{etag}"', X_Repo_Commit=commit)

    do_HEAD = do_GET


@contextmanager
def fake_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub that the client asks, with a cache of its own and a token."""
    hub = FakeHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield hub
    hub.shutdown()
    hub.server_close()
