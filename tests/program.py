"""The program in processes of its own, forked from a server that has imported it all.

Every such process imports this module: it imports nothing that the program does not.
"""

import ctypes
import multiprocessing
import os
import re
import resource
import runpy
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PROJECT = TESTS.parent
PYTHONPATH = f"{TESTS}{os.pathsep}{PROJECT}"  # where other processes find the stand-ins and us


class Finished(NamedTuple):
    """How a process ended; ``status`` is negative when a signal killed it."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Finished]
Several = Callable[..., list[Finished]]
ReferenceRun = Callable[..., Path]


def fork_server() -> ForkServerContext:
    """The server; it starts with the first process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "cifar_lightning.cli.lightning_cli",
            "cifar_lightning.__main__",
            "cifar_lightning.figures",
            "cifar_lightning.sweep.sweep",
        ]
    )
    return context


def _child(
    argv: list[str],
    folder: str,
    out: str,
    environ: dict[str, str],
    limit_file_size: int | None,
    obeys_permissions: bool,
    terminal: str | None,
    script: str | None,
) -> None:
    for number, name in ((1, ".stdout"), (2, ".stderr")):
        path = terminal if terminal and number == 1 else out + name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.update({"XDG_CACHE_HOME": str(Path(out).with_name(".cache")), **environ})
    sys.path[:0] = [folder, str(TESTS)]  # the first as python has it
    sys.argv = [script or "cifar_lightning", *argv]
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    if limit_file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))
    if obeys_permissions:
        _obey_permissions()
    if "FAKE_CIFAR10" in os.environ:
        import fake_cifar10

        fake_cifar10.install()
    if script:
        runpy.run_path(script, run_name="__main__")
        return
    from cifar_lightning.__main__ import main

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


def _start(
    server: ForkServerContext,
    argv: tuple[str, ...],
    folder: Path,
    out: Path,
    environ: dict[str, str],
    limit_file_size: int | None = None,
    obeys_permissions: bool = False,
    terminal: str | None = None,
    script: str | None = None,
) -> ForkServerProcess:
    """Start ``cifar_lightning`` in a folder; ``out`` begins the names of what it prints."""
    Path(f"{out}.stdout").touch()
    limits = (limit_file_size, obeys_permissions, terminal, script)
    process = server.Process(
        target=_child, args=(list(argv), str(folder), str(out), environ, *limits)
    )
    process.start()
    return process


def _finished(process: ForkServerProcess, out: Path) -> Finished:
    assert process.exitcode is not None
    # torch 2.9's gloo reports its connections on standard output, and no setting stops it
    stdout = re.sub(r"(?m)^\[Gloo\].*\n", "", Path(f"{out}.stdout").read_text())
    return Finished(process.exitcode, stdout, Path(f"{out}.stderr").read_text())


def run(
    server: ForkServerContext,
    *argv: str,
    folder: Path,
    out: Path,
    started: Callable[[int], None] = lambda pid: None,
    limit_file_size: int | None = None,
    obeys_permissions: bool = False,
    terminal: str | None = None,
    script: str | None = None,
    **environ: str,
) -> Finished:
    """Run ``cifar_lightning`` with these arguments, and wait for its end.

    Args:
        server: forks the process.
        argv: the arguments.
        folder: where it runs.
        out: begins the names of the files of what it prints; its cache is beside them.
        started: is told the process's number.
        limit_file_size: in bytes, of each file that it writes.
        obeys_permissions: as root is not asked to.
        terminal: the device that is its standard output.
        script: a file of Python that is run in the program's place.
        environ: what its environment has besides ours.
    """
    limits = (limit_file_size, obeys_permissions, terminal, script)
    process = _start(server, argv, folder, out, environ, *limits)
    assert process.pid is not None
    started(process.pid)
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"still running: {argv} {_finished(process, out)}")
    return _finished(process, out)


def run_several(
    server: ForkServerContext,
    count: int,
    *argv: str,
    folder: Path,
    patience: float = 100,
    by: str = "torchrun",
    **environ: str,
) -> list[Finished]:
    """Run ``cifar_lightning`` in several processes, wait for their end, and give each one's.

    Args:
        server: forks the processes.
        count: how many.
        argv: the arguments of all of them.
        folder: where they run.
        patience: seconds until it is an error that they still run.
        by: whose variables they find in their environment, ``torchrun``'s or ``slurm``'s.
        environ: what their environment has besides.
    """
    processes = [
        (_start(server, argv, folder, out, variables | environ), out)
        for rank, variables in enumerate(_variables(count, by))
        for out in [folder / f".out{rank}"]
    ]
    deadline = time.monotonic() + patience
    for process, _ in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    hanging = [process for process, _ in processes if process.exitcode is None]
    for process in hanging:
        process.kill()
        process.join()
    ended = [_finished(process, out) for process, out in processes]
    assert not hanging, f"still running: {argv} {ended}"
    return ended


def _variables(count: int, by: str) -> Iterator[dict[str, str]]:
    """The environment of each of the processes that torchrun, or SLURM, starts."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    if by == "torchrun":
        common = {
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_WORLD_SIZE": "1",
            "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
        }  # fmt: skip
        own = ("RANK", "LOCAL_RANK")
    else:
        common = {
            "SLURM_NTASKS": str(count), "SLURM_NTASKS_PER_NODE": str(count), "SLURM_NNODES": "1",
            "SLURM_NODEID": "0", "SLURM_JOB_ID": "72", "SLURM_JOB_NAME": "train",
        }  # fmt: skip
        own = ("SLURM_PROCID", "SLURM_LOCALID")
    for rank in range(count):
        yield {**address, **common, **dict.fromkeys(own, str(rank))}


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
