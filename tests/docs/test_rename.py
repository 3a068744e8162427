"""The project under another name, by the commands of docs/rename.md."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from program import PROJECT

TRACKED = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
AS = ("-c", "user.name=reader", "-c", "user.email=reader@example.org")
TINY = (
    "--data.source", "Shapes", "--data.source.size", "100", "--data.val_size", "20",
    "--model.net", "LeNet5", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
)  # fmt: skip


def commands() -> list[str]:
    """What the page says, but for what pip does."""
    (block,) = re.findall(r"```sh\n(.*?)```", (PROJECT / "docs/rename.md").read_text(), re.DOTALL)
    return [line for line in block.splitlines() if not line.startswith("pip ")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout of the working tree, its own repository."""
    if shutil.which("git") is None or shutil.which("perl") is None:
        pytest.skip("git or perl is not at hand")
    listed = subprocess.run(TRACKED, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout")
    folder = tmp_path / "checkout"
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():  # else deleted, and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], [*AS, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_the_renamed_project_trains(checkout: Path, run: Path) -> None:
    script = "\n".join(["set -eo pipefail", *commands()])
    subprocess.run(["bash", "-c", script], cwd=checkout, check=True)
    left = subprocess.run(["git", "grep", "-lI", "cifar[_-]lightning"], cwd=checkout)
    assert left.returncode == 1  # none
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my_project"
    assert project["scripts"] == {"my-project": "my_project.__main__:main"}
    # what pip writes of a package that it installs
    metadata = checkout / "my_project-0.1.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: my_project\nVersion: 0.1.0\n")

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [sys.executable, "-m", "my_project", *arguments]
        return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True)

    helped = program("fit", "--help")
    assert helped.stdout.startswith("usage: python -m my_project fit"), helped
    trained = program("fit", *TINY)
    assert trained.returncode == 0, trained
    old = program("fit", "--ckpt_path", str(run / "checkpoints/last.ckpt"))
    assert old.returncode == 1, old
    assert "was not written by this version of my_project" in old.stderr
