"""The program from its wheel, in a folder without a clone."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import RUN
from program import PROJECT, Command

from cifar_lightning.runs.record import read_run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel of this tree is unpacked."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"  # the build leaves files beside the sources
    for name in ("cifar_lightning", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, clone / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, clone)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    built = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_all_of_the_package_and_the_configs_travel_in_it(wheel: Path) -> None:
    package = PROJECT / "cifar_lightning"
    sources = {path.relative_to(package) for path in package.rglob("*.py")}
    configs = {Path("configs") / path.name for path in (PROJECT / "configs").iterdir()}
    inside = wheel / "cifar_lightning"
    there = {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()}
    assert there == sources | configs | {Path("py.typed")}


def test_it_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable, "-m", "cifar_lightning", "fit", "--config", "quickstart",
            "--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--data.source.size=100",
            "--data.val_size", "20", "--dashboard.pictures_every_n_epochs", "0",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(wheel)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    run = read_run(tmp_path / RUN)
    assert run.recipe.startswith("quickstart: ")
    assert run.config.content["data"]["batch_size"] == 16  # as the config has it


def test_a_name_that_is_none(command: Command, tmp_path: Path) -> None:
    for given in ("quikstart", "configs/quickstart.yaml"):
        ended = command("fit", "--config", given)
        assert ended.status == 2
        assert f"--config {given}: there is no such file, did you mean quickstart?" in ended.stderr
        assert "article, fast, lenet5, quickstart" in ended.stderr
    assert not (tmp_path / "lightning_logs").exists()


def test_a_config_by_its_name_and_a_file_of_that_name(command: Command, tmp_path: Path) -> None:
    path = str(PROJECT / "configs" / "fast.yaml")
    ours = command("fit", "--config", "fast", "--print_config")
    assert ours == command("fit", "--config", path, "--print_config")
    assert ours.status == 0
    (tmp_path / "tuned").write_text("data: {batch_size: 7}")
    both = command("fit", "--config=fast", "--config=tuned", "--print_config").stdout
    assert both == re.sub("batch_size: [0-9]+", "batch_size: 7", ours.stdout)


def test_a_copy_of_the_sources_that_is_not_installed() -> None:
    uninstalled = (
        "import importlib.metadata as metadata, runpy\n"
        "real = metadata.version\n"
        "def version(name):\n"
        "    if name == 'cifar_lightning':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
    )
    shown, card = (
        subprocess.run(
            [sys.executable, "-c", uninstalled + then, "--version"],
            cwd=PROJECT, capture_output=True, text=True, check=False,
        )
        for then in (
            "runpy.run_module('cifar_lightning', run_name='__main__')",
            "from cifar_lightning.runs.provenance import versions; print(versions())",
        )
    )  # fmt: skip
    assert shown.stdout == "cifar_lightning, not installed: a copy of its sources\n", shown.stderr
    assert "'cifar_lightning': 'not installed', 'torch': '2" in card.stdout, card.stderr
