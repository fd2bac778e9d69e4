"""The way out that the message of a firewall names: HTTPS_PROXY, with a real CONNECT and TLS on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emaps_dagster.contracts.errors import BlockedError
from emaps_dagster_tests.electricity_maps.test_http_errors import FORTINET
from emaps_dagster_tests.support.scripted_api import GOOD, Api, ask

HOST = "api.example.org"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of the API's host, and its key."""
    paths = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    command += ["-addext", f"subjectAltName=DNS:{HOST}", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def copied(source: socket.socket, target: socket.socket) -> None:
    while content := source.recv(65536):
        target.sendall(content)
    target.shutdown(socket.SHUT_WR)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine to make a certificate with")
def test_a_proxy_that_lets_the_host_through_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path)
    api, asked = Api(), list[str]()

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            with socket.create_connection(api.server.server_address[:2]) as behind:
                self.send_response(200)
                self.end_headers()
                there = threading.Thread(target=copied, args=(self.connection, behind))
                there.start()
                copied(behind, self.connection)
                there.join()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    serving = threading.Thread(target=proxy.serve_forever, args=(0.01,))
    serving.start()
    try:
        monkeypatch.setenv("NO_PROXY", "*")
        with pytest.raises(BlockedError, match="or set HTTPS_PROXY to a proxy that lets it through"):
            ask(api.then(403, FORTINET))
        api.script[:] = []
        api.then(200, GOOD)
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(certificate_file, key_file)
        api.server.socket = secure.wrap_socket(api.server.socket, server_side=True)
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate_file))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        assert json.loads(ask(api, f"https://{HOST}/v3", attempts=1).body) == GOOD
        assert asked == [f"{HOST}:443"]
    finally:
        proxy.shutdown()
        serving.join()
        proxy.server_close()
        api.stop()
