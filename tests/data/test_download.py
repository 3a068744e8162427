"""Promise: whatever the network does, the right data or one message that says what to do."""

import os
import queue
import signal
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fake_cifar10 import (
    IMAGES_PER_FILE,
    answers_status,
    delivers,
    environment,
    make_archive,
    redirects,
)
from helpers import CIFAR10_TINY, succeeded
from program import Command, Several

from cifar_lightning.data import CIFAR10, download
from cifar_lightning.errors import UserError

ARCHIVE, BELIEFS = make_archive()
pytestmark = pytest.mark.usefixtures("believe")


def hangs(request: BaseHTTPRequestHandler) -> None:
    request.rfile.read(1)  # until the other side gives up


def test_fetches_checks_and_unpacks(tmp_path: Path, serve: Any) -> None:
    url, asked = serve(good=delivers(ARCHIVE))
    source = CIFAR10(tmp_path / "data", mirrors=[f"{url}/good"])
    source.prepare()
    source.prepare()
    assert asked == ["/good"]
    assert len(source.load("train").labels) == 5 * IMAGES_PER_FILE
    assert len(source.load("test").labels) == IMAGES_PER_FILE
    assert (tmp_path / "data/cifar-10-python.tar.gz").read_bytes() == ARCHIVE


FAULTS = {
    "cut off": (delivers(ARCHIVE[:999], promised=len(ARCHIVE)), "broke off half-way", 2),
    "wrong content": (delivers(ARCHIVE[::-1]), "wrong checksum", 1),
    "html page": (delivers(b"<html>Please log in</html>"), "wrong checksum", 1),
    "404": (answers_status(404), "404", 1),
    "500": (answers_status(500), "500", 3),
    "503": (answers_status(503), "503", 3),
    "redirect loop": (redirects("/bad"), "redirects in a circle", 6),
    "redirect to plain http": (redirects("http://localhost:1/x"), "without https", 1),
    "silent": (hangs, "timed out", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_steps_in(
    fault: str, tmp_path: Path, serve: Any, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(download, "_READ_SECONDS", 0.2)
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.0)
    answer, reason, attempts = FAULTS[fault]
    url, asked = serve(bad=answer, good=delivers(ARCHIVE))
    CIFAR10(tmp_path / "data", mirrors=[f"{url}/bad", f"{url}/good"]).prepare()
    assert asked == ["/bad"] * attempts + ["/good"]
    assert reason in caplog.text
    assert len(CIFAR10(tmp_path / "data").load("test").labels) == IMAGES_PER_FILE


def test_a_trickle_is_given_up(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(download, "_SLOW_SECONDS", 0.05)
    given_up = threading.Event()

    def trickles(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(ARCHIVE)))
        request.end_headers()
        try:
            while not given_up.wait(0.02):
                request.wfile.write(b"x" * (1 << 8))
        except OSError:
            pass

    url, _ = serve(slow=trickles, good=delivers(ARCHIVE))
    CIFAR10(tmp_path / "data", mirrors=[f"{url}/slow", f"{url}/good"]).prepare()
    given_up.set()
    assert "too slow" in caplog.text


def test_all_mirrors_bad_is_one_message(tmp_path: Path, serve: Any) -> None:
    url, _ = serve(bad=answers_status(404))
    addresses = [f"{url}/bad", "https://localhost:1/x", "https://name.invalid/x", "http://a/b"]
    with pytest.raises(UserError) as caught:
        CIFAR10(tmp_path / "data", mirrors=addresses).prepare()
    message = str(caught.value)
    for address, reason in zip(
        addresses, ["404", "refused", "name cannot be found", "without https"], strict=True
    ):
        assert any(address in line and reason in line for line in message.splitlines()), message
    assert BELIEFS["_ARCHIVE_MD5"] in message
    assert "--config quickstart" in message
    assert not (tmp_path / "data").exists()


def test_an_untrusted_certificate_is_refused(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = serve(good=delivers(ARCHIVE))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(UserError, match="certificate cannot be trusted"):
        CIFAR10(tmp_path / "data", mirrors=[f"{url}/good"]).prepare()
    assert asked == []


def test_fit_without_network(command: Command, tmp_path: Path) -> None:
    closed = ["https://localhost:1/x", "https://localhost:2/y"]
    ended = command("fit", **environment(BELIEFS, closed, None))
    assert ended.status == 1
    assert "Traceback" not in ended.stderr
    # several lines on purpose: a mirror each, and what can be copied into a shell by itself
    said, first, second, *remedy = ended.stderr.partition("cifar_lightning: ")[2].splitlines()
    assert said == "cifar-10-python.tar.gz could not be downloaded:"
    assert [first, second] == [f"  {url}: the connection was refused" for url in closed]
    assert str(tmp_path / "data/cifar-10-python.tar.gz") in remedy[0]
    assert remedy[-1] == "  python -m cifar_lightning fit --config quickstart"
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_mid_download(
    signum: int, status: int, command: Command, tmp_path: Path, serve: Any
) -> None:
    pids: queue.Queue[int] = queue.Queue()

    def half_then_signal(request: BaseHTTPRequestHandler) -> None:
        delivers(ARCHIVE[: len(ARCHIVE) // 2], promised=len(ARCHIVE))(request)
        os.kill(pids.get(), signum)
        request.rfile.read(1)  # until the process has gone

    url, _ = serve(slow=half_then_signal)
    environ = environment(BELIEFS, [f"{url}/slow"], Path(os.environ["REQUESTS_CA_BUNDLE"]))
    ended = command("fit", started=pids.put, **environ)
    assert ended.status == status, ended
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "lightning_logs").exists()


def test_runs_beside_each_other_fetch_once(command: Command, tmp_path: Path, serve: Any) -> None:
    url, asked = serve(good=delivers(ARCHIVE))
    environ = environment(BELIEFS, [f"{url}/good"], Path(os.environ["REQUESTS_CA_BUNDLE"]))
    flags = (*CIFAR10_TINY, "--data.source.root", "data")
    statuses = []

    def fit(number: int) -> None:
        folder = tmp_path / f"of{number}"
        folder.mkdir()
        (folder / "data").symlink_to(tmp_path / "data")
        ended = command("fit", *flags, folder=folder, out=f".out{number}", **environ)
        statuses.append(ended.status)

    (tmp_path / "data").mkdir()
    threads = [threading.Thread(target=fit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0, 0, 0]
    assert asked == ["/good"]


def test_one_of_several_processes_downloads(several: Several, serve: Any) -> None:
    url, asked = serve(good=delivers(ARCHIVE))
    environ = environment(BELIEFS, [f"{url}/good"], Path(os.environ["REQUESTS_CA_BUNDLE"]))
    assert succeeded(several(2, "fit", *CIFAR10_TINY, **environ))
    assert asked == ["/good"]
