"""Promise: whatever the network does, the right data or one message that says what to do."""

import os
import queue
import signal
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from fake_cifar10 import (
    IMAGES_PER_FILE,
    answers_status,
    delivers,
    environment,
    make_archive,
    mirrors,
    redirects,
)
from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

from cifar_lightning.data import CIFAR10, cifar10, download
from cifar_lightning.data.source import Split
from cifar_lightning.errors import UserError

ARCHIVE, BELIEFS = make_archive()


@pytest.fixture(autouse=True)
def believe(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**BELIEFS, "_MIRRORS": ()}.items():
        monkeypatch.setattr(cifar10, name, value)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**answers: Any) -> tuple[str, list[str]]:
            paths = {f"/{name}": answer for name, answer in answers.items()}
            url, ca, asked = stack.enter_context(mirrors(tmp_path, paths))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
            return url, asked

        yield start


def hangs(request: BaseHTTPRequestHandler) -> None:
    request.rfile.read(1)  # until the other side gives up


def test_reads_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    source = CIFAR10(tmp_path)
    source.prepare()
    monkeypatch.setattr(TorchvisionCIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(TorchvisionCIFAR10, "_load_meta", lambda self: None)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        ours = source.load(split)
        theirs = TorchvisionCIFAR10(str(tmp_path), train=split == "train")
        assert ours.images.dtype == torch.uint8
        assert np.array_equal(ours.images.numpy(), theirs.data)
        assert ours.labels.tolist() == theirs.targets


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
    assert "configs/quickstart.yaml" in message
    left = [path.name for path in (tmp_path / "data").iterdir()]
    assert left == [".cifar-10.lock"]


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
    for part in (*closed, str(tmp_path / "data/cifar-10-python.tar.gz"), "quickstart.yaml"):
        assert part in ended.stderr
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
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".cifar-10.lock"]
    assert not (tmp_path / "lightning_logs").exists()


def test_several_processes_fetch_once(command: Command, tmp_path: Path, serve: Any) -> None:
    url, asked = serve(good=delivers(ARCHIVE))
    ca = Path(os.environ["REQUESTS_CA_BUNDLE"])
    environ = environment(BELIEFS, [f"{url}/good"], ca)
    flags = [
        "--model.net", "stand_ins.Tiny", "--data.val_size", "50", "--data.source.root", "data",
        "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
    ]  # fmt: skip
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


def test_damaged_file_is_replaced_from_the_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    damaged = tmp_path / "cifar-10-batches-py/data_batch_3"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    CIFAR10(tmp_path).prepare()
    assert "data_batch_3" in caplog.text
    assert len(CIFAR10(tmp_path).load("train").labels) == 5 * IMAGES_PER_FILE


@pytest.mark.parametrize("folder", ["none", "damaged"])
def test_damaged_archive_is_fetched_again(
    folder: str, tmp_path: Path, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(ARCHIVE)
    if folder == "damaged":
        CIFAR10(tmp_path).prepare()
        (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"damaged")
    archive.write_bytes(ARCHIVE[:1000])
    url, asked = serve(good=delivers(ARCHIVE))
    CIFAR10(tmp_path, mirrors=[f"{url}/good"]).prepare()
    assert asked == ["/good"]
    assert "cifar-10-python.tar.gz is damaged or incomplete" in caplog.text
    assert archive.read_bytes() == ARCHIVE
    assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE


def test_folder_alone_and_read_only(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    (tmp_path / ".cifar-10.lock").unlink()
    tmp_path.chmod(0o500)
    try:
        CIFAR10(tmp_path).prepare()
        assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE
    finally:
        tmp_path.chmod(0o700)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-py"]


def test_hashed_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    CIFAR10(tmp_path).prepare()
    hashed: list[str] = []
    holds = cifar10._holds

    def watched(path: Path, md5: str) -> bool:
        hashed.append(path.name)
        return holds(path, md5)

    monkeypatch.setattr(cifar10, "_holds", watched)
    CIFAR10(tmp_path).prepare()
    assert hashed == []
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(path.read_bytes()[::-1])  # the same size
    CIFAR10(tmp_path).prepare()
    assert "test_batch" in hashed
    assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE


def test_archive_in_a_folder_one_may_only_read(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    root.chmod(0o555)
    flags = ["--model.net", "stand_ins.Tiny", "--data.val_size", "50", "--trainer.max_epochs", "1"]
    environ = environment(BELIEFS, [], None)
    ended = command(
        "fit", *flags, "--data.source.root", "shared", obeys_permissions=True, **environ
    )
    root.chmod(0o755)
    assert ended.status == 0, ended.stderr
    assert "stays packed" in ended.stderr
    assert [path.name for path in root.iterdir()] == ["cifar-10-python.tar.gz"]


def test_disk_full_while_unpacking(command: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    flags = ["--model.net", "stand_ins.Tiny", "--data.val_size", "50", "--trainer.max_epochs", "1"]
    ended = command("fit", *flags, limit_file_size=50_000, **environment(BELIEFS, [], None))
    assert "stays packed (File too large)" in ended.stderr  # and is read as it is
    assert list((tmp_path / "data").rglob("*batch*/*")) == []
    assert ended.status == 0, ended.stderr


def test_pickle_that_wants_more_than_arrays_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    touched = tmp_path / "touched"
    code = b"cos\nsystem\n(S'touch %s'\ntR." % str(touched).encode()
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(code)
    with pytest.raises(UserError, match=r"system is no part of CIFAR-10"):
        CIFAR10(tmp_path).load("test")
    assert not touched.exists()


def test_archive_with_foreign_paths_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(__file__, "../../test_batch")
        tar.add(__file__, "/elsewhere")
    cifar10._unpack(evil, tmp_path / "inner/folder")
    assert [p.name for p in (tmp_path / "inner/folder").iterdir()] == ["test_batch"]
