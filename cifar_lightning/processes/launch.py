"""How the processes of a command are started, and how they end together."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import Signals
from typing import Any

import torch.distributed as dist
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy

from cifar_lightning.errors import FailedError, UsageError, UserError
from cifar_lightning.lightning_internals import cluster_environment
from cifar_lightning.processes.collectives import abort, leave, rank, world_size
from cifar_lightning.processes.signals import Interrupted

_to_say: set[int] = set()  # ids of errors that this process has to say
_PARENT = "CIFAR_LIGHTNING_PARENT"
_GRACE = 15.0  # seconds in which a process that lost another ends by itself


class ProcessLostError(UserError):
    """Another process of this command has ended, which it should not have."""


@contextmanager
def launch(trainer: Trainer) -> Iterator[None]:
    """Start the other processes of this machine, unless torchrun or SLURM has, and connect to all;
    in the end leave together and wait for them. A single process goes on alone.

    Not Lightning's launcher, which kills all processes with SIGKILL when one of them ends with a
    status, as they do after Ctrl-C.

    Raises:
        UsageError: there are not as many processes as the trainer was told.
        ProcessLostError: another process has ended before this one.
    """
    environment = cluster_environment(trainer)
    _check_number(trainer, environment)
    if trainer.world_size == 1:
        yield
        return
    strategy = trainer.strategy
    assert isinstance(strategy, DDPStrategy)
    children = []
    if not environment.creates_processes_externally:
        children = _start(environment, strategy.num_processes, trainer.world_size)
    elif _PARENT in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    patience = 0.0
    try:
        strategy.setup_environment()
        yield
        leave()
        patience = 60.0
    except Interrupted:
        patience = _GRACE  # they were asked as well
        raise
    except Exception as error:  # no patience: they have nothing to save
        if _is_lost_connection(error):
            lost = ProcessLostError(_what_ended(children))
            if is_said(lost):  # asked here: the record goes with the connection
                sys.exit(lost.exit_status)
            raise lost from error
        if is_said(error):
            sys.exit(getattr(error, "exit_status", 1))
        if not isinstance(error, UserError):
            print(f"cifar_lightning: process {rank()} of {world_size()} failed:", file=sys.stderr)
        if rank() == 0 and not children:
            _wait_until_heard()
        raise
    finally:
        abort()
        _end(children, patience)


def is_said(error: Exception) -> bool:
    """Whether another process has said this, or what lies behind it; if not, this one must."""
    if id(error) in _to_say:
        return False
    if rank() > 0:
        time.sleep(1)  # process 0 has the first word
    lost = isinstance(error, ProcessLostError)
    store = _store()
    said = False
    if store is not None:
        try:
            said = lost and store.add("said", 0) > 0
            said = said or store.add("lost" if lost else f"said {error}", 1) > 1
            store.add("heard" if said else "said", 1)
        except RuntimeError:  # it was kept by process 0, which is gone
            said = lost and rank() > 1
    if not said:
        _to_say.add(id(error))
    return said


def _wait_until_heard() -> None:
    """Let the others know that an error is said here, which process 0 keeps the record of."""
    store = _store()
    others = world_size() - 1
    abort()  # by which they notice
    deadline = time.monotonic() + 5
    with suppress(RuntimeError):
        while store.add("heard", 0) < others and time.monotonic() < deadline:
            time.sleep(0.1)


def _check_number(trainer: Trainer, environment: ClusterEnvironment) -> None:
    if isinstance(environment, LightningEnvironment):
        return
    started = environment.world_size()
    if started != trainer.world_size:
        raise UsageError(
            f"--trainer.devices, --trainer.num_nodes: {started} processes were started, but the "
            f"trainer was told of {trainer.world_size}; give the devices of each machine and the "
            "number of machines."
        )


def _start(
    environment: ClusterEnvironment, count: int, world_size: int
) -> list[subprocess.Popen[bytes]]:
    os.environ.update(
        MASTER_ADDR=environment.main_address,
        MASTER_PORT=str(environment.main_port),
        NODE_RANK=str(environment.node_rank()),
        WORLD_SIZE=str(world_size),
        LOCAL_RANK="0",  # by which Lightning knows that the others are there
    )
    command = [sys.executable, "-m", "cifar_lightning", *sys.argv[1:]]
    first = environment.node_rank() * count
    os.environ["RANK"] = str(first)
    children = []
    for number in range(1, count):
        own = {"LOCAL_RANK": str(number), "RANK": str(first + number), _PARENT: str(os.getpid())}
        children.append(subprocess.Popen(command, env={**os.environ, **own}))
    threading.Thread(target=_end_with_children, args=(children,), daemon=True).start()
    return children


def _end(children: list[subprocess.Popen[bytes]], patience: float) -> None:
    deadline = time.monotonic() + patience
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _end_with_children(children: list[subprocess.Popen[bytes]]) -> None:
    """In a thread: a process that waits for a GPU does not notice that another one is gone."""
    while not any(child.poll() for child in children):
        if all(child.poll() == 0 for child in children):
            return
        time.sleep(0.5)
    connected = dist.is_initialized()
    if connected:
        time.sleep(_GRACE)
    statuses = [child.returncode for child in children if child.returncode]
    # before they were connected it has said itself why it ended, if it could
    if connected or min(statuses) < 0:
        error = ProcessLostError(_what_ended(children))
        if not is_said(error):
            print(f"cifar_lightning: {error}", file=sys.stderr, flush=True)
    for child in children:
        child.kill()
    os._exit(1 if connected else max(1, *statuses))


def _end_with_parent() -> None:
    parent = int(os.environ[_PARENT])
    while os.getppid() == parent:
        time.sleep(0.5)
    time.sleep(_GRACE)
    os._exit(ProcessLostError.exit_status)


def _what_ended(children: list[subprocess.Popen[bytes]]) -> str:
    deadline = time.monotonic() + 3  # a connection is closed before its process has ended
    ended: list[str] = []
    while children and not ended and time.monotonic() < deadline:
        for number, child in enumerate(children, start=1):
            if (status := child.poll()) is not None:
                how = Signals(-status).name if status < 0 else f"status {status}"
                ended.append(f"process {number} ({how})")
        time.sleep(0.1)
    return (
        f"{' and '.join(ended) or 'Another process'} has ended before its time; what was saved "
        "last is whole: go on with --ckpt_path last."
    )


def _is_lost_connection(error: BaseException) -> bool:
    error = error.error if isinstance(error, FailedError) else error
    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "Connection" in text)
    )


def _store() -> Any:
    """What all processes can write into: the group's, or before there is one torchrun's."""
    if dist.is_initialized():
        return dist.distributed_c10d._get_default_store()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(address, port, is_master=False, wait_for_workers=False)
    return None
