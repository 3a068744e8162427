"""A small archive in the official one's form, and mirrors on localhost, good and bad."""

import hashlib
import io
import json
import os
import pickle
import ssl
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import trustme

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
IMAGES_PER_FILE = 40


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings: the official files come from there."""

    def _save_string(self, content: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch: ClassVar[Any] = {**pickle._Pickler.dispatch, bytes: _save_string}


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


@cache  # of the same content a second one would have another checksum: gzip puts the time into it
def make_archive() -> tuple[bytes, dict[str, Any]]:
    """The archive's bytes, and what the package must believe to take it for CIFAR-10."""
    packed, md5 = io.BytesIO(), {}
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for number, name in enumerate(NAMES):
            numbers = np.random.default_rng(number)
            content = _pickled(
                {
                    b"data": numbers.integers(0, 256, (IMAGES_PER_FILE, 3072), dtype=np.uint8),
                    b"labels": (np.arange(IMAGES_PER_FILE) % 10).tolist(),
                }
            )
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            md5[name] = hashlib.md5(content).hexdigest()
    archive = packed.getvalue()
    return archive, {"_ARCHIVE_MD5": hashlib.md5(archive).hexdigest(), "_FILES_MD5": md5}


def environment(beliefs: dict[str, Any], mirrors: list[str], ca: Path | None) -> dict[str, str]:
    """For a process of the command line: see ``install``."""
    trust = {"REQUESTS_CA_BUNDLE": str(ca)} if ca else {}
    return {"FAKE_CIFAR10": json.dumps({**beliefs, "_MIRRORS": mirrors}), **trust}


def install() -> None:
    """In a process that has ``FAKE_CIFAR10`` in its environment, make the package believe it."""
    from cifar_lightning.data import cifar10

    for name, value in json.loads(os.environ.get("FAKE_CIFAR10", "{}")).items():
        setattr(cifar10, name, value)


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def mirrors(folder: Path, answers: dict[str, Answer]) -> Iterator[tuple[str, Path, list[str]]]:
    """Serve over https; each path has its own behaviour.

    Gives the server's address, the certificate to trust, and the paths asked for, in order.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answers[self.path](self)

        def log_message(self, *args: Any) -> None:
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}", ca, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def delivers(content: bytes, promised: int | None = None) -> Answer:
    """Sends the content; with ``promised`` larger than it the connection breaks off."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(promised or len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def answers_status(status: int) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def redirects(to: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer
