"""``sweep``: the command."""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.messages import quiet_lightning
from cifar_lightning.cli.numerics import choose_formats
from cifar_lightning.commands.names import CommandParser
from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.processes.signals import Interrupted
from cifar_lightning.runs.folders import logs_folder
from cifar_lightning.sweep import report
from cifar_lightning.sweep.halving import BAD, standings
from cifar_lightning.sweep.ledger import Ledger
from cifar_lightning.sweep.settings import check_same, make_settings, recipe_of
from cifar_lightning.sweep.space import size
from cifar_lightning.sweep.trial import prepare
from cifar_lightning.sweep.work import Work
from cifar_lightning.sweep.workers import Worker

_TRIALS = 27


def sweep(argv: Sequence[str]) -> None:
    """Run the command. Raises UserError: it cannot begin, or cannot go on."""
    quiet_lightning()
    choose_formats()
    asked, options = _parse(argv)
    logs = logs_folder(Arguments(["fit", *options], ["fit"]).value_of("trainer.default_root_dir"))
    is_file = Path(asked.space).suffix in (".yaml", ".yml") or Path(asked.space).is_file()
    name = asked.name or (Path(asked.space).stem if is_file else asked.space)
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise UsageError(f"--name {name}: take letters, digits, dots, - and _ alone.")
    folder = logs / "sweeps" / name
    if not is_file and (options or not folder.is_dir()):
        why = (
            f"options of fit go with a space: {options[0]}"
            if folder.is_dir()
            else (f"there is no such file, and no sweep {folder}")
        )
        raise UsageError(f"{asked.space}: {why}.")
    settings = make_settings(asked, options) if is_file and not asked.show else None
    nothing = f"{folder} holds no sweep that was begun: name its space."
    if asked.show and not folder.is_dir():
        raise UserError(nothing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}).") from error
    ledger = Ledger(folder, asked.storage)
    kept = ledger.settings if settings is None else ledger.begin(settings)
    if kept is None:
        raise UserError(nothing)
    if asked.show:
        print(report.table(ledger))
        return
    check_same(name, settings or kept._replace(recipe=recipe_of(prepare(kept.options))), kept)
    if asked.trials is not None or not ledger.trials:
        ledger.trials = int(min(asked.trials or _TRIALS, size(kept.space)))
    try:
        with Worker(folder / "workers") as worker:
            Work(folder, ledger, worker).until_the_end()
    except Interrupted:
        print(f"To go on: python -m cifar_lightning sweep {name}", file=sys.stderr)
        raise
    _conclude(folder, ledger, asked.keep)


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own arguments, and those of ``fit``."""
    parser = CommandParser("sweep")
    parser.add_argument(
        "space",
        metavar="SPACE",
        help="a YAML file: option: {low, high, log}, "
        "{low, high, step} or a list; or the name of a sweep, to go on with it",
    )
    parser.add_argument("--show", action="store_true", help="the table so far, and nothing else")
    parser.add_argument("--name", help="of the sweep; by default that of the file")
    parser.add_argument("--trials", type=_count, help="how many configurations (27)")
    parser.add_argument(
        "--seeds",
        type=_count,
        default=1,
        help="rank those that come to the end by the mean over so many seeds",
    )
    parser.add_argument(
        "--rungs",
        type=_rungs,
        help="epochs after which only the best third goes on, "
        "as in 1,3; by default the powers of 3",
    )
    parser.add_argument("--sampler", choices=["tpe", "random"], default="tpe")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="a database for Optuna, as in "
        "sqlite:///sweep.db; by default a file in the sweep's folder",
    )
    parser.add_argument("--keep", choices=["best", "all"], default="best", help="whose checkpoints "
                        "stay")  # fmt: skip
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise UsageError("sweep: name the space first, as in sweep space.yaml --trials 9.")
    parser.epilog = "Any other option is one of fit, for all trials."
    asked, options = parser.parse_known_args(argv)
    return asked, options


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1 on")
    return int(text)


def _rungs(text: str) -> tuple[int, ...]:
    rungs = tuple(_count(word.strip()) for word in text.split(","))
    if list(rungs) != sorted(set(rungs)):
        raise argparse.ArgumentTypeError(f"{text} must ascend")
    return rungs


def _conclude(folder: Path, ledger: Ledger, keep: str) -> None:
    """Say what was found. Raises UserError: nothing was."""
    settings, found = ledger.settings, standings(ledger.values())
    assert settings is not None
    if found[0].value == BAD:
        raise UserError(
            f"All {len(found)} trials of {folder} have diverged or failed, the last by this: "
            f"{ledger.last_reason}"
        )
    winner, runs = found[0].configuration, ledger.runs()
    params = ledger.params()[winner]
    run, by_hand = folder / runs[winner, settings.seeds[0]], report.command(settings, params)
    if not (run / "config.yaml").exists():
        raise UserError(f"{run}, the run of the best trial, is gone; by hand it is: {by_hand}")
    if keep == "best":
        for (configuration, _), name in runs.items():
            if configuration != winner:
                _drop_checkpoints(folder / name)
    defaults: dict[str, Any] = prepare([]).plain_config()
    report.write_overlay(folder / "best.yaml", run, defaults)
    report.draw(folder / "sweep.png", ledger)
    seconds, epochs = ledger.seconds_of_epochs()
    hours, minutes = divmod(round(seconds / 60), 60)
    full = replace(ledger.plan, rungs=settings.rungs[-1:]).expected_epochs
    print(
        f"\n{report.table(ledger)}\n\n"
        f"trained        {epochs} epochs in {hours} h {minutes:02} min; had none been stopped, "
        f"{full}\n"
        f"picture        {folder / 'sweep.png'}\n"
        f"its recipe     python -m cifar_lightning fit --config {folder / 'best.yaml'}\n"
        f"by hand        {by_hand}\n"
        f"test it        python -m cifar_lightning test --ckpt_path {run}"
    )


def _drop_checkpoints(run: Path) -> None:
    """Of a run that has lost, unless somebody goes on with it."""
    try:
        with FileLock(run / ".lock", timeout=0):
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
    except (Timeout, OSError):
        return
