"""Two machines on one: network namespaces joined by a virtual cable, no file system in common.

Needs Linux, root and iproute2:
``sudo python -m pytest -m slow tests/processes/test_two_machines.py``.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import LONG, RUN, assert_alike, one_sentence
from program import PYTHONPATH, Command, Finished

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("ip") is None or os.geteuid() != 0, reason="needs root and iproute2"
    ),
]
MACHINES = ("machine0", "machine1")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def cable() -> Iterator[None]:
    try:
        for machine in MACHINES:
            ip("netns", "add", machine)
        ends = ["cable0", "netns", MACHINES[0], "type", "veth", "peer", "name", "cable1"]
        ip("link", "add", *ends, "netns", MACHINES[1])
        for number, machine in enumerate(MACHINES):
            ip("-n", machine, "address", "add", f"10.77.0.{number + 1}/24", "dev", f"cable{number}")
            ip("-n", machine, "link", "set", f"cable{number}", "up")
            ip("-n", machine, "link", "set", "lo", "up")
        yield
    finally:
        for machine in MACHINES:
            subprocess.run(["ip", "netns", "delete", machine], check=False)


def on_each(folder: Path, command: list[str], *argv: str) -> list[subprocess.Popen[str]]:
    started = []
    for number, machine in enumerate(MACHINES):
        (folder / machine).mkdir(exist_ok=True)
        environ = {
            **os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29511",
            "GLOO_SOCKET_IFNAME": f"cable{number}", "NODE_RANK": str(number),
            "MASTER_ADDR": "10.77.0.1", "XDG_CACHE_HOME": str(folder / machine / ".cache"),
        }  # fmt: skip
        within = ["ip", "netns", "exec", machine, sys.executable, "-m"]
        started.append(
            subprocess.Popen(
                [*within, *(word.format(number) for word in command), *argv],
                cwd=folder / machine, env=environ, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    return started


TORCHRUN = [
    "torch.distributed.run", "--nnodes", "2", "--node_rank", "{}", "--nproc_per_node", "1",
    "--master_addr", "10.77.0.1", "--master_port", "29511", "-m", "cifar_lightning",
]  # fmt: skip


@pytest.mark.parametrize("by", ["torchrun", "the command itself"])
def test_two_machines(by: str, cable: None, command: Command, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    assert command("fit", *LONG, folder=tmp_path / "alone").status == 0
    if by == "torchrun":
        started = on_each(tmp_path, TORCHRUN, "fit", *LONG)
    else:
        started = on_each(tmp_path, ["cifar_lightning"], "fit", *LONG, "--trainer.num_nodes", "2")
    printed = [one.communicate(timeout=200) for one in started]
    assert [one.returncode for one in started] == [0, 0], printed
    assert "epoch  13/13" in printed[0][0]
    assert not printed[1][0]
    run = tmp_path / MACHINES[0] / RUN
    assert_alike(run, tmp_path / "alone" / RUN)
    assert not list((tmp_path / MACHINES[1]).glob("lightning_logs/*"))


def test_a_machine_is_switched_off(cable: None, tmp_path: Path) -> None:
    endless = ("fit", *LONG, "--trainer.max_epochs", "100000", "--trainer.num_nodes", "2")
    first, second = on_each(tmp_path, ["cifar_lightning"], *endless)
    assert first.stdout is not None
    while "epoch   3/" not in first.stdout.readline():
        assert first.poll() is None
    second.kill()
    _, said = first.communicate(timeout=30)
    assert "has ended before its time" in one_sentence(Finished(first.returncode, "", said))
