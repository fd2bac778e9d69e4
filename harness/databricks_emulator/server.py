"""The REST API over HTTP/1.1: who may call, what was received, which service answers. Binds to 127.0.0.1 only."""

from __future__ import annotations

import base64
import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from harness.databricks_emulator.errors import ApiError, injected, invalid
from harness.databricks_emulator.faults import Faults
from harness.databricks_emulator.jobs import Jobs
from harness.databricks_emulator.storage import Dbfs, Volumes

Answer = tuple[int, dict[str, str], bytes]
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Request:
    """A call as it came; credentials are not kept.

    Attributes:
        sent: bytes that the client sent for it, the first line, headers and framing of chunks included.
    """

    method: str
    path: str
    query: dict[str, str]
    status: int
    body: bytes
    sent: int


class Api:
    """Answers calls; knows nothing of sockets."""

    def __init__(self, dbfs: Dbfs, volumes: Volumes, jobs: Jobs, faults: Faults) -> None:
        self.dbfs, self.volumes, self.jobs, self.faults = dbfs, volumes, jobs, faults
        self.token = f"dapi{secrets.token_hex(16)}"
        self.client_id = f"{secrets.token_hex(4)}-{secrets.token_hex(2)}-client"
        self.client_secret = f"dose{secrets.token_hex(16)}"
        # How long a token of OAuth is good for.
        self.token_seconds = 3600
        self.host = ""
        self.requests: list[Request] = []
        self.permissions: dict[str, Any] = {}
        self._access: dict[str, float] = {}

    def answer(self, method: str, target: str, authorization: str, body: bytes, sent: int) -> Answer:
        parts = urlsplit(target)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            answer = self._answer(method, path, query, authorization, body)
        except ApiError as error:
            text = json.dumps({"error_code": error.code, "message": error.message}).encode()
            wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            answer = error.status, {**_JSON, **wait}, text
        self.requests.append(Request(method, path, query, answer[0], body, sent))
        return answer

    def _answer(self, method: str, path: str, query: dict[str, str], authorization: str, body: bytes) -> Answer:
        fault = self.faults.of_call(method, path, f"{path} {query} {body.decode(errors='replace')}")
        if fault and not fault.lost and not fault.torn:
            raise injected(fault.status, fault.retry_after)
        if path.startswith("/oidc/"):
            answer = self._oidc(method, path, authorization, body)
        else:
            self._admit(authorization)
            answer = self._route(method, path, query, body)
        if fault and fault.lost:
            raise injected(fault.status, fault.retry_after)
        return _torn(answer) if fault else answer

    def _admit(self, authorization: str) -> None:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise ApiError(
                401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API."
            )
        known = {self.token, *(one for one, end in self._access.items() if end > time.time())}
        if token not in known:
            raise ApiError(403, "PERMISSION_DENIED", "Invalid access token.")

    def _oidc(self, method: str, path: str, authorization: str, body: bytes) -> Answer:
        if (method, path) == ("GET", "/oidc/.well-known/oauth-authorization-server"):
            at = f"{self.host}/oidc/v1"
            return _json({"authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token"})
        if (method, path) != ("POST", "/oidc/v1/token"):
            raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for {method} {path}")
        expected = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if authorization != f"Basic {expected}":
            error = {"error": "invalid_client", "error_description": "Client authentication failed"}
            return 401, _JSON, json.dumps(error).encode()
        if dict(parse_qsl(body.decode())).get("grant_type") != "client_credentials":
            return 400, _JSON, json.dumps({"error": "unsupported_grant_type"}).encode()
        token = f"eyJ{secrets.token_hex(24)}"
        self._access[token] = time.time() + self.token_seconds
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds, "scope": "all-apis"}
        return _json(answer)

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        if path.startswith("/api/2.0/dbfs/"):
            return _json(self.dbfs.call(path.rpartition("/")[2], _body(body) if method == "POST" else query))
        if path.startswith("/api/2.0/fs/files/"):
            headers, content = self.volumes.files(method, path.removeprefix("/api/2.0/fs/files"), query, body)
            return (200 if method in ("GET", "HEAD") else 204), headers, content
        if path.startswith("/api/2.0/fs/directories/"):
            answer = self.volumes.directories(method, path.removeprefix("/api/2.0/fs/directories"))
            return _json(answer) if method == "GET" else (200 if method == "HEAD" else 204, {}, b"")
        if path.startswith("/api/2.0/permissions/"):
            if method in ("PATCH", "PUT"):
                self.permissions[path.removeprefix("/api/2.0/permissions/")] = _body(body)
            return _json({"object_id": path.removeprefix("/api/2.0/permissions"), "access_control_list": []})
        # The version is part of the path; these calls are the same in all of them.
        name = path.partition("/api/2.")[2].partition("/")[2]
        call = {
            ("POST", "jobs/create"): lambda: self.jobs.create(_body(body)),
            ("POST", "jobs/run-now"): lambda: self.jobs.run_now(_body(body)),
            ("POST", "jobs/runs/submit"): lambda: self.jobs.submit(_body(body)),
            ("POST", "jobs/runs/cancel"): lambda: self.jobs.cancel(_body(body)),
            ("GET", "jobs/runs/get"): lambda: self.jobs.find(query.get("run_id")).as_json(),
            ("GET", "jobs/runs/list"): lambda: self.jobs.list_runs(query),
            ("GET", "jobs/runs/get-output"): lambda: self.jobs.output(query.get("run_id")),
            ("GET", "clusters/get"): lambda: self._cluster(query.get("cluster_id", "")),
        }.get((method, name))
        if call is None:
            raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        return _json(call())

    def _cluster(self, cluster_id: str) -> dict[str, Any]:
        if cluster_id not in self.jobs.clusters:
            raise invalid(f"Cluster {cluster_id} does not exist")
        settings = self.jobs.clusters[cluster_id].settings
        return {"cluster_id": cluster_id, "spark_version": "17.3.x-scala2.13", "state": "RUNNING", **settings}


def _json(answer: dict[str, Any]) -> Answer:
    return 200, _JSON, json.dumps(answer).encode()


def _body(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content or b"{}")
    except ValueError as error:
        raise ApiError(400, "MALFORMED_REQUEST", f"Could not parse request object: {error}") from error
    if not isinstance(parsed, dict):
        raise ApiError(400, "MALFORMED_REQUEST", "Could not parse request object: Expected an object")
    return parsed


def _torn(answer: Answer) -> Answer:
    """The first half of a file."""
    status, headers, content = answer
    if headers.get("Content-Type") == "application/json":
        read = json.loads(content)
        part = base64.b64decode(read["data"])[: read["bytes_read"] // 2]
        return _json({"bytes_read": len(part), "data": base64.b64encode(part).decode()})
    return status, headers, content[: len(content) // 2]


class Server:
    """The API behind a socket, in a thread of this process."""

    def __init__(self, api: Api, port: int = 0) -> None:
        class Handler(_Handler):
            pass

        Handler.api = api
        self._server = _Server(("127.0.0.1", port), Handler)
        api.host = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Interrupted clients are not logged."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: Api
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _serve(self) -> None:
        body, framing = self._content()
        head = len(self.raw_requestline) + sum(len(f"{name}: {value}\r\n") for name, value in self.headers.items()) + 2
        sent = head + len(body) + framing
        answer = self.api.answer(self.command, self.path, self.headers.get("Authorization", ""), body, sent)
        status, headers, content = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - names of the standard library

    def _content(self) -> tuple[bytes, int]:
        """The body, and how many bytes more were sent to frame its chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0))), 0
        parts, framing = [], 0
        while size := int((line := self.rfile.readline()).split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            framing += len(line) + len(self.rfile.readline())
        return b"".join(parts), framing + len(line) + len(self.rfile.readline())

    def log_message(self, *_: object) -> None:
        """Nothing: the calls are in `Api.requests`."""
