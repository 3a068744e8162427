"""The command line in real processes, fast: forked from a server that has imported it all."""

import ctypes
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Several tests run beside each other, each with networks that are too small for two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as main does, before torch is imported

TESTS = Path(__file__).parent
PROJECT = TESTS.parent


class Finished(NamedTuple):
    """How a process ended; ``status`` is negative when a signal killed it."""

    status: int
    stdout: str
    stderr: str


def _child(
    argv: list[str],
    folder: str,
    out: str,
    environ: dict[str, str],
    limit_file_size: int | None = None,
    obeys_permissions: bool = False,
    terminal: str | None = None,
) -> None:
    for number, name in ((1, ".stdout"), (2, ".stderr")):
        path = terminal if terminal and number == 1 else out + name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.update({"XDG_CACHE_HOME": str(Path(out).with_name(".cache")), **environ})
    sys.path.insert(0, str(TESTS))
    sys.argv = ["cifar_lightning", *argv]
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    if limit_file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))
    if obeys_permissions:
        _obey_permissions()
    import fake_cifar10

    from cifar_lightning.__main__ import main

    fake_cifar10.install()
    main()


def _obey_permissions() -> None:
    """Take from root the capability that no file and no folder refuses it anything."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # Linux's version 3 of the structure
        sets = (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        sets[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert libc.capset(header, sets) == 0


@pytest.fixture(scope="session")
def fork_server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cifar_lightning.cli.lightning_cli", "cifar_lightning.__main__", "cifar_lightning.figures"]
    )
    return context


Command = Callable[..., Finished]


@pytest.fixture
def command(fork_server: Any, tmp_path: Path) -> Command:
    """Run ``cifar_lightning`` with these arguments in ``tmp_path``, and wait for its end."""

    def run(
        *argv: str,
        folder: Path = tmp_path,
        out: str = ".out",
        limit_file_size: int | None = None,
        obeys_permissions: bool = False,
        terminal: str | None = None,
        started: Callable[[int], None] = lambda pid: None,
        **environ: str,
    ) -> Finished:
        printed = str(tmp_path / out)
        Path(f"{printed}.stdout").touch()
        limits = (limit_file_size, obeys_permissions)
        arguments = (list(argv), str(folder), printed, environ, *limits, terminal)
        process = fork_server.Process(target=_child, args=arguments)
        process.start()
        started(process.pid)
        process.join(120)
        assert process.exitcode is not None, f"still running: {argv}"
        return Finished(
            process.exitcode,
            Path(f"{printed}.stdout").read_text(),
            Path(f"{printed}.stderr").read_text(),
        )

    return run


TINY = (
    "--model.net", "stand_ins.Tiny",
    "--data.source", "Shapes", "--data.source.size", "300", "--data.val_size", "50",
    "--data.batch_size", "32",
    "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "3", "--trainer.accelerator", "cpu",
    "--dashboard.pictures_every_n_epochs", "0",
)  # fmt: skip
"""A run of 3 epochs of 8 steps, the last batch short, that takes no time."""
