"""Fixtures: the program in real processes, and runs that many tests start from or compare with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

# Several tests run beside each other, each with networks that are too small for two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as main does, before torch is imported

import program
from fake_cifar10 import make_archive, mirrors
from helpers import LONG, RUN, SCHEDULED, TINY, outcome, succeeded
from program import Command, Finished, ReferenceRun, Several


@pytest.fixture(scope="session")
def fork_server() -> ForkServerContext:
    return program.fork_server()


@pytest.fixture
def command(fork_server: ForkServerContext, tmp_path: Path) -> Command:
    """Run ``cifar_lightning`` with these arguments in ``tmp_path``, and wait for its end."""

    def run(*argv: str, folder: Path = tmp_path, out: str = ".out", **how: Any) -> Finished:
        return program.run(fork_server, *argv, folder=folder, out=tmp_path / out, **how)

    return run


@pytest.fixture
def several(fork_server: ForkServerContext, tmp_path: Path) -> Several:
    """Run ``cifar_lightning`` in several processes that torchrun (or SLURM) might have started."""

    def run(count: int, *argv: str, folder: Path = tmp_path, **how: Any) -> list[Finished]:
        return program.run_several(fork_server, count, *argv, folder=folder, **how)

    return run


# Runs that go well, made once for all tests of a worker: what they leave is copied or only read.


@pytest.fixture(scope="session")
def reference_run(
    fork_server: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceRun:
    """Fit with these flags in a folder of its own, see that it ends well, and give the run."""

    def fit(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("reference")
        ended = program.run(fork_server, "fit", *flags, folder=folder, out=folder / ".out")
        assert ended.status == 0, ended
        return folder / RUN

    return fit


@pytest.fixture(scope="session")
def _finished_run(reference_run: ReferenceRun) -> Path:
    return reference_run(*TINY)


@pytest.fixture
def run(_finished_run: Path, tmp_path: Path) -> Path:
    """A finished TINY run in ``tmp_path``, the test's own."""
    return Path(shutil.copytree(_finished_run, tmp_path / RUN))


@pytest.fixture(scope="session")
def uninterrupted(reference_run: ReferenceRun) -> dict[str, Any]:
    """The outcome of a run of the whole recipe."""
    return outcome(reference_run(*TINY, *SCHEDULED))


@pytest.fixture(scope="session")
def two_uninterrupted(
    fork_server: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The outcome of the same run in two processes."""
    folder = tmp_path_factory.mktemp("two")
    flags = (*TINY, *SCHEDULED)
    assert succeeded(program.run_several(fork_server, 2, "fit", *flags, folder=folder))
    return outcome(folder / RUN)


@pytest.fixture(scope="session")
def _run_alone(reference_run: ReferenceRun) -> Path:
    return reference_run(*LONG)


@pytest.fixture
def alone(_run_alone: Path, tmp_path: Path) -> Path:
    """A run of 104 steps in one process, the test's own."""
    return Path(shutil.copytree(_run_alone, tmp_path / "alone" / RUN))


# The official archive, and servers of it.


@pytest.fixture
def believe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package take the small archive for CIFAR-10, and know no mirror of it."""
    from cifar_lightning.data import cifar10

    for name, value in {**make_archive()[1], "_MIRRORS": ()}.items():
        monkeypatch.setattr(cifar10, name, value)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve answers at ``/their name``; gives the address, and the list of what is asked for."""
    with ExitStack() as stack:

        def start(**answers: Any) -> tuple[str, list[str]]:
            paths = {f"/{name}": answer for name, answer in answers.items()}
            url, ca, asked = stack.enter_context(mirrors(tmp_path, paths))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
            return url, asked

        yield start
