"""The README's commands, as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import PROJECT, Command
from fake_cifar10 import environment, make_archive

BLOCKS = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
OURS = [line for line in COMMANDS if "python -m cifar_lightning" in line]
SHORT = [
    "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1",
    "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
]  # fmt: skip


def test_setup_commands_are_one_line_each() -> None:
    assert COMMANDS[0].startswith("pip install -e . && ")
    assert COMMANDS[1] == "pip install -e '.[dev]' && python -m pytest"


def test_every_command_runs(command: Command, tmp_path: Path) -> None:
    archive, beliefs = make_archive()
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-10-python.tar.gz").write_bytes(archive)
    for split in ("train", "test"):
        for name in ("one", "two"):
            folder = tmp_path / "my_images" / split / name
            folder.mkdir(parents=True)
            write_images(folder, 60)
    (tmp_path / "my_pictures").mkdir()
    write_images(tmp_path / "my_pictures", 3)
    environ = environment(beliefs, [], None)
    assert len(OURS) >= 8
    for line in OURS:
        arguments = shlex.split(line.split("python -m cifar_lightning ")[1])
        if arguments[0] == "fit":
            resumes = "--ckpt_path" in arguments
            # a run can't be shortened half-way; the one that is resumed was given one epoch
            arguments += ["--trainer.max_epochs", "2"] if resumes else SHORT
            if "quickstart" not in line and not resumes:
                arguments += ["--data.val_size", "20"]
        ended = command(*arguments, **environ)
        assert ended.status == 0, (line, ended)


def write_images(folder: Path, count: int) -> None:
    from PIL import Image

    for number in range(count):
        Image.new("RGB", (32, 32), (number, 100, 200)).save(folder / f"{number}.png")


@pytest.mark.parametrize("name", ["README.md", "docs/data.md", "docs/results.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (PROJECT / name).read_text()):
        if not target.startswith("http"):
            assert (PROJECT / name).parent.joinpath(target).exists(), target
