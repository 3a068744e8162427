"""What README.md and docs/*.md show is run, as it stands there.

A page is followed in a working folder of its own, from top to bottom, all its files first:

```bash
    Every command is run. ``fit`` is shortened (see SHORT). ``pip install``, ``python -m pytest``,
    ``tensorboard``, ``git clone`` and ``cd`` are not run. No other program may stand there.
```sh, ```console
    For what needs machines, data or time that a test has not: each ``python -m cifar_lightning``
    and ``torchrun … -m cifar_lightning`` must parse. In ```console a command begins with ``$``; the
    rest is what it prints.
```python, ```yaml
    A file, if the first line is its name, as ``# my_nets.py`` or ``# my_recipe.yaml``: it is
    written into the folder before anything is run; Python is then run as a script, too. Without a
    name Python is run in the folder as it stands, when its turn comes, and YAML must parse.
```, ```text
    Output, or a tree: no command of ours may stand there.
`…` in a sentence
    A command that begins with ``python -m cifar_lightning``, variables before it or not, must
    parse.

Other kinds of blocks are an error. A line that ends in a backslash goes on in the next. DIR, NAME
and N are placeholders (see PLACEHOLDERS), the variable of a shell's loop is its first value.

The folder has ``configs/``, a small archive in the place of CIFAR-10's in ``data/``, ``my_images/``
(two classes, for ImageFolder) and ``my_pictures/``. README.md begins without a run; for a page of
docs/ there is a finished one.

Scripts find the variables that torchrun sets for a single process.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from fake_cifar10 import environment, make_archive
from helpers import write_images
from program import PROJECT, Command, free_port

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]

SHORT = [
    "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1",
    "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
]  # fmt: skip
PLACEHOLDERS = {"DIR": "my_images", "NAME": "fast", "N": "1"}
NOT_RUN = ("pip install ", "python -m pytest", "tensorboard ", "git clone ", "cd ")
PROGRAM = re.compile(r"\b(?:python|torchrun\b.*) -m cifar_lightning\b")


class Block(NamedTuple):
    """A block of a page: its label, its first line's file name if it has one, and its text."""

    label: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    fenced = re.findall(r"(?ms)^( *)```([^\n`]*)\n(.*?)^\1```$", page.read_text())
    assert 2 * len(fenced) == len(re.findall(r"(?m)^ *```", page.read_text()))
    texts = [(label, textwrap.dedent(text)) for _, label, text in fenced]
    named = re.compile(r"# ([\w/.-]+\.(?:py|yaml))\n")
    return [
        Block(label, found[1] if (found := named.match(text)) else "", text)
        for label, text in texts
    ]


def commands(text: str, label: str) -> Iterator[str]:
    """What a block, or a few words of code, asks a shell to do; without its loops."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    if label == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    variables: dict[str, str] = {}
    for line in lines:
        if loop := re.match(r"for (\w+) in (\S+)", line):
            variables[f"${loop[1]}"] = loop[2]
        for part in line.split(" && "):
            for variable, value in variables.items():
                part = part.replace(variable, value)
            if part.strip() and not part.startswith(("#", "for ", "done")):
                yield re.sub(r"\b(DIR|NAME|N)\b", lambda found: PLACEHOLDERS[found[0]], part)


def arguments(command: str) -> list[str]:
    """What the program is given by a command that starts it."""
    return shlex.split(PROGRAM.split(command, maxsplit=1)[1], comments=True)


class Reader:
    """Somebody who does in a folder what a page says."""

    def __init__(self, folder: Path, command: Command) -> None:
        archive, beliefs = make_archive()
        self._folder = folder
        self._command = command
        self._environ = environment(beliefs, [], None)
        (folder / "configs").symlink_to(PROJECT / "configs")
        (folder / "data").mkdir()
        (folder / "data/cifar-10-python.tar.gz").write_bytes(archive)
        for split in ("train", "test"):
            for shade, name in enumerate(("one", "two")):
                write_images(folder / "my_images" / split / name, 60, 200 * shade)
        write_images(folder / "my_pictures", 3)

    def writes(self, block: Block) -> None:
        path = self._folder / block.file
        assert not path.exists(), f"{block.file} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def executes(self, block: Block) -> None:
        script = self._folder / (block.file or ".block.py")
        script.write_text(block.text)
        torchrun = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        ended = self._command(
            script=str(script), **self._environ, **torchrun, MASTER_PORT=str(free_port())
        )
        assert ended.status == 0, (block, ended)

    def runs(self, line: str) -> None:
        """A command, shortened if it trains."""
        if line.startswith(NOT_RUN):
            return
        assert PROGRAM.search(line), f"{line}: only our own commands are run, see above"
        given = arguments(line)
        if given[0] == "fit" and "--ckpt_path" in given:
            # a run cannot be shortened half-way; the one that goes on was given one epoch, or two
            given += ["--trainer.max_epochs", "3" if "--trainer.max_epochs" in given else "2"]
        elif given[0] == "fit":
            given += SHORT if "quickstart" in line else [*SHORT, "--data.val_size", "20"]
        ended = self._command(*given, **self._environ)
        assert ended.status == 0, (line, ended)

    def parses(self, line: str) -> None:
        """A command that is not run."""
        name, *given = arguments(line) or ["--help"]
        if name in ("fit", "validate", "test", "predict", "bench"):  # which takes what fit takes
            name = name.replace("bench", "fit")
            ended = self._command(name, *given, "--print_config", **self._environ)
            assert ended.status == 0, (line, ended)
        elif (
            name == "sweep" and "--show" not in given
        ):  # of one trial: whatever it takes is checked
            given = [
                w for i, w in enumerate(given) if "--trials" not in given[max(i - 1, 0) : i + 1]
            ]
            tiny = ["--model.net", "LeNet5", "--data.val_size", "20", "--trials", "1"]
            ended = self._command(name, *given, *SHORT[:4], *tiny, **self._environ)
            assert ended.status == 0, (line, ended)
        else:
            ended = self._command(name, *given, **self._environ)
            assert ended.status in (0, 1), (line, ended)  # 2 is wrong usage


MANY_RUNS = ("docs/sweep.md", "docs/data.md", "docs/dashboard.md")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in MANY_RUNS else []) for n in NAMES],
)
def test_what_is_shown_runs(
    name: str, command: Command, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name != "README.md":
        request.getfixturevalue("run")
    reader = Reader(tmp_path, command)
    page = blocks(PROJECT / name)
    for block in page:
        if block.file:
            reader.writes(block)
    for block in page:
        if block.label == "bash":
            for line in commands(block.text, block.label):
                reader.runs(line)
        elif block.label in ("sh", "console"):
            for line in commands(block.text, block.label):
                if PROGRAM.search(line):
                    reader.parses(line)
        elif block.label == "python":
            reader.executes(block)
        elif block.label == "yaml":
            assert yaml.safe_load(block.text) is not None, block
        else:
            assert block.label in ("", "text"), block
            assert not PROGRAM.search(block.text), f"not run, and not looked at: {block.text}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_the_text_parse(name: str, command: Command, tmp_path: Path) -> None:
    reader = Reader(tmp_path, command)
    text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", (PROJECT / name).read_text())
    for code in dict.fromkeys(re.findall(r"`([^`]+)`", text)):
        if re.match(r"(\w+=\S+ )*python -m cifar_lightning\b", code):
            for line in commands(" ".join(code.split()), "inline"):
                reader.parses(line)


def test_setup_commands_are_one_line_each() -> None:
    readme = (PROJECT / "README.md").read_text()
    assert "\npip install -e . && python -m cifar_lightning fit --config configs/quick" in readme
    assert "\npip install -e '.[dev]' && python -m pytest\n" in readme


def test_the_readme_is_read_in_five_minutes() -> None:
    readme = (PROJECT / "README.md").read_text()
    assert len(readme.splitlines()) <= 140
    assert len(readme.split()) <= 1400


def test_the_readme_s_map_has_every_room() -> None:
    readme = (PROJECT / "README.md").read_text()
    package = PROJECT / "cifar_lightning"
    for room in (path.parent.name for path in package.glob("*/__init__.py")):
        assert re.search(rf"(?m)^  (?:[\w./]+, )*{room}/", readme), room


def slugs(page: Path) -> set[str]:
    """What a link may have after ``#``, as GitHub makes it of headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = PROJECT / name
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            path, _, heading = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not heading or heading in slugs(there), target


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    text = (PROJECT / name).read_text().replace("NAME", PLACEHOLDERS["NAME"])
    for path in re.findall(r"(?<![\w./-])(?:tests|configs|docs|cifar_lightning)/[\w/.-]*\w", text):
        assert (PROJECT / path).exists(), path
