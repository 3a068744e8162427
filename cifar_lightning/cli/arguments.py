"""The program's arguments: who wins over whom, and where each option has its value from.

The command line wins over the checkpoint, the checkpoint over the defaults. Flags and ``--config``
files count in the order in which they stand.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from cifar_lightning.cli.config_file import GROUPS, check_config, find_config
from cifar_lightning.cli.repeats import Setting, add_up, short
from cifar_lightning.errors import FailedError, UsageError, UserError, own_traceback
from cifar_lightning.runs.checkpoints import RESUMABLE
from cifar_lightning.runs.config import OF_THE_COMMAND, flat, is_in
from cifar_lightning.runs.folders import (
    LoadedCheckpoint,
    checkpoint_of_job,
    find_checkpoint,
    logs_folder,
)


class Arguments:
    """The program's arguments, looked through before they are parsed.

    Args:
        argv: the arguments; the first word among them that is a command is the command.
        commands: the names of the commands.

    Raises:
        UsageError: a config file among them does not say what it seems to say.
    """

    def __init__(self, argv: list[str], commands: Iterable[str]) -> None:
        self.command = next((word for word in argv if word in set(commands)), None)
        self._start = argv.index(self.command) + 1 if self.command else len(argv)
        typed = add_up(argv[self._start :])
        words = list(typed)
        self.settings: list[Setting] = []
        """What flags and config files say, in their order."""
        for place, (word, following) in enumerate(zip_longest(typed, typed[1:])):
            name, equals, value = word.partition("=")
            given = value if equals else following
            if name in ("--config", "-c") and given is not None:
                path = find_config(str(given or ""))
                check_config(path)
                self.settings += _of_file(path, str(given))
                if given and path != given:
                    words[place + (not equals)] = f"{name}={path}" if equals else path
            elif name.startswith("--"):
                option = name.removeprefix("--")
                self.settings += _of_option(option, given, None, Path())
        self.argv = [*argv[: self._start], *words]

    def value_of(self, name: str) -> str | None:
        """What the arguments say of an option; null in a file says nothing."""
        for setting in reversed(self.settings):
            if setting.name == name and not (setting.file and setting.value is None):
                return None if setting.value in (None, "null") else str(setting.value)
        return None

    def asks_for(self, name: str) -> bool:
        """Whether the arguments say anything of an option, whatever the checkpoint says of it."""
        return any(is_in(short(name), (s.option.removesuffix("+"),)) for s in self.settings)

    def origin(self, name: str) -> str | None:
        """The config file by which an option has its value; None for a flag."""
        asked = short(name)
        files: list[str | None] = [
            setting.file
            for setting in self.settings
            if is_in(asked, (short(setting.name),)) or is_in(short(setting.name), (asked,))
        ]
        return files[-1] if files else None

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Name the config file in what is raised, and say it when somebody's code has ended the
        program. Raises UserError."""
        try:
            yield
        except (SystemExit, UserError) as ended:
            error = ended.__cause__ if isinstance(ended, SystemExit) else ended  # of Parser.error
            if not isinstance(error, UserError):
                if own_traceback(ended) is None:
                    raise
                error = FailedError(ended, "Your code ends the program")
            error.args = (self._with_file(str(error)),)
            raise error from error.__cause__

    def _with_file(self, sentence: str) -> str:
        """A sentence that begins with an option; where the option has its value from a config file
        it begins with that, and speaks of keys instead of flags."""
        found = re.match(r"(?:there is no option )?--([a-z]\w*(?:\.\w+)*)", sentence)
        file = self.origin(found[1]) if found else None
        if found is None or file is None or file in sentence:
            return sentence
        for flag in ("there is no option --", "did you mean --", f"--{found[1]}"):
            sentence = sentence.replace(flag, flag.replace("--", ""), 1)
        return f"{'--config' if _is_text(file) else file}: {sentence}"

    def give(self, name: str) -> bool:
        """Whether the arguments set an option themselves, or something below it."""
        return any(is_in(short(setting.name), (short(name),)) for setting in self.settings)

    def find_checkpoint(self) -> LoadedCheckpoint | None:
        """The checkpoint that the command starts from: the one that is asked for, the newest of a
        SLURM job that was queued again, or for commands that do not train the best.

        Raises:
            UserError: there is none, or it cannot be used; says which.
        """
        if self.command is None or self._asks_for_text:
            return None
        logs = logs_folder(self.value_of("trainer.default_root_dir"))
        name = self.value_of("ckpt_path")
        if self.command != "fit":
            self._check_trained()
            return _with_loops(find_checkpoint("best" if name is None else name, logs))
        wanted = checkpoint_of_job(logs) if name is None else name
        if wanted is None:
            return None
        found = find_checkpoint(str(wanted), logs, of_run="last")
        if found.ours.get("format") not in RESUMABLE:
            raise UserError(
                f"{found.path} was not written by this version of cifar_lightning: it can be "
                "tested, but does not hold what is needed to go on with its run."
            )
        return _with_loops(found)

    def after_checkpoint(self, found: LoadedCheckpoint | None) -> list[str]:
        """The arguments with the configuration of a checkpoint's run in front of them. Commands
        that do not train take the data, the network and what is the best from it."""
        config = (found and found.ours.get("config")) or {}
        if self.command == "fit":
            inherited = {k: v for k, v in config.items() if k not in OF_THE_COMMAND}
        else:
            names = ("seed_everything", "data", "model", "checkpoints")
            inherited = {name: config[name] for name in names if name in config}
        in_front = ["--config", json.dumps(inherited)] if inherited else []
        return [*self.argv[: self._start], *in_front, *self.argv[self._start :]]

    def _check_trained(self) -> None:
        asked = [setting for setting in self.settings if setting.name == "ckpt_path"]
        if asked and asked[-1].file is None and asked[-1].value == "null":
            raise UsageError(
                f"--ckpt_path null: {self.command} takes a trained network; give best, last, the "
                "folder of a run or the path of a checkpoint."
            )

    @property
    def _asks_for_text(self) -> bool:
        return any(w in ("-h", "--help") or w.startswith("--print_config") for w in self.argv)


def _of_file(path: str, shown: str, within: tuple[str, ...] = ()) -> Iterator[Setting]:
    """What a config file says, or its text, with the files that it includes.

    Args:
        path: the file.
        shown: how it was asked for.
        within: the files that it is included in.
    """
    folder = Path(path).parent if _is_file(path) else Path()
    for name, value in flat(_read(path)):
        included = str(folder / str(value))
        if name == "config" and included not in (*within, path) and _is_file(included):
            yield from _of_file(included, included, (*within, path))
        else:
            yield from _of_option(name, value, shown, folder)


def _of_option(name: str, value: Any, file: str | None, folder: Path) -> Iterator[Setting]:
    """What a flag says, or a key of a file: another file may hold a whole group of options."""
    path = folder / str(value)
    if name not in GROUPS or not isinstance(value, str) or not _is_file(str(path)):
        yield Setting(name, value, file)
        return
    for below, one in flat(_read(str(path))):
        yield Setting(f"{name}.{below}", one, str(path))


def _is_text(config: str) -> bool:
    return config.startswith(("{", "[")) or "\n" in config


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a text is no path
        return False


def _with_loops(found: LoadedCheckpoint) -> LoadedCheckpoint:
    """A checkpoint that says how far its run has come. Raises UserError: it does not."""
    if "fit_loop" not in found.content["loops"]:
        raise UserError(f"{found.path} is damaged, or of another program: it has no fit_loop.")
    return found


def _read(config: str) -> dict[str, Any]:
    """A config file, or its text; nothing of one that the parser is going to complain of."""
    try:
        path = Path(config)
        content = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else config)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
