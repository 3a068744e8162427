"""What a sweep is begun with, checked before anything runs, and kept."""

import argparse
import json
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution

from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.lightning_cli import CLI
from cifar_lightning.cli.repeats import short
from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.runs.config import OF_THE_COMMAND, flat, is_in
from cifar_lightning.sweep.halving import FACTOR
from cifar_lightning.sweep.space import Params, Sampler, as_written, corners, read_space, words
from cifar_lightning.sweep.trial import prepare

_OWN = {
    "ckpt_path": "trials start anew, and go on by themselves",
    "run_name": "runs are named after the sweep",
    "trainer.fast_dev_run": "it leaves no run to rank",
}


class Settings(NamedTuple):
    """What a sweep is begun with and keeps."""

    space: dict[str, BaseDistribution]
    options: list[str]
    """Those of ``fit`` that are the same for all trials, as they were typed."""
    recipe: dict[str, Any]
    """What they come to: ``fit``'s configuration without the space."""
    rungs: tuple[int, ...]
    seeds: tuple[int, ...]
    sampler: Sampler
    threads: int
    """With which each worker computes on a CPU: the bits depend on it."""

    def stored(self) -> dict[str, Any]:
        """As plain values."""
        space = {name: distribution_to_json(of) for name, of in self.space.items()}
        plain: dict[str, Any] = json.loads(json.dumps({**self._asdict(), "space": space}))
        return plain

    @classmethod
    def restored(cls, plain: dict[str, Any]) -> "Settings":
        space = {name: json_to_distribution(of) for name, of in plain["space"].items()}
        rungs, seeds = tuple(plain["rungs"]), tuple(plain["seeds"])
        return cls(**{**plain, "space": space, "rungs": rungs, "seeds": seeds})


def make_settings(asked: argparse.Namespace, options: list[str]) -> Settings:
    """Everything is checked before anything runs. Raises UsageError."""
    space = read_space(asked.space)
    given = Arguments(["fit", *options], ["fit"]).settings
    for setting in given:
        name = short(setting.name)
        if name in _OWN:
            raise UsageError(f"--{name} does not go with sweep: {_OWN[name]}.")
        if setting.file is None and is_in(name, space):
            raise UsageError(f"--{name} is in {asked.space}, too: leave out one of them.")
    base = prepare(options)
    recipe = recipe_of(base)
    trainer, data = recipe["trainer"], recipe["data"]
    if base.trainer.world_size > 1:
        raise UsageError("Each trial runs on one device: start sweep again for every other one.")
    if not data["val_size"]:
        raise UsageError(
            f"--data.val_size {json.dumps(data['val_size'])}: trials are ranked by held-out "
            "images; hold some out."
        )
    for name, without in (("max_steps", -1), ("max_time", None)):
        if trainer[name] not in (None, without):
            raise UsageError(
                f"--trainer.{name} does not go with sweep: say by --trainer.max_epochs how long a "
                "whole run is."
            )
    most = trainer["max_epochs"]
    if most is None or most < 1:
        raise UsageError(
            f"--trainer.max_epochs {json.dumps(most)}: say how many epochs a whole run has."
        )
    powers = takewhile(lambda power: power < most, (FACTOR**n for n in range(most)))
    rungs = asked.rungs or tuple(powers)
    if any(rung > most for rung in rungs):
        raise UsageError(f"--rungs {rungs[-1]}: a whole run has {most} epochs.")
    first, every = min([*rungs, most]), trainer["check_val_every_n_epoch"] or 1
    if first < every:
        raise UsageError(
            f"--trainer.check_val_every_n_epoch {every}: trials are ranked after epoch {first}: "
            "validate more often, or give other --rungs."
        )
    for params in corners(space):
        _check_corner(asked.space, options, params)
    seed = recipe["seed_everything"]
    return Settings(
        space=space,
        options=options,
        recipe=recipe,
        rungs=tuple(sorted({*rungs, most})),
        seeds=tuple(range(seed, seed + asked.seeds)),
        sampler=asked.sampler,
        threads=torch.get_num_threads(),
    )


def _check_corner(file: str, options: list[str], params: Params) -> None:
    """Whether ``fit`` takes each value. What fails in combination alone is a bad trial when its
    turn comes. Raises UsageError."""
    try:
        prepare([*options, *words(params)])
    except UserError:
        for name, value in params.items():
            try:
                prepare([*options, *words({name: value})])
            except UserError as error:
                raise UsageError(f"{file}: {error}") from error


def recipe_of(base: CLI) -> dict[str, Any]:
    """The configuration of ``fit``, less what is about one call of it."""
    return {k: v for k, v in base.plain_config().items() if k not in OF_THE_COMMAND}


def check_same(name: str, asked: Settings, kept: Settings) -> None:
    """Whether a sweep that goes on is the one that was begun. Raises UsageError."""
    new, old = (_told(settings) for settings in (asked, kept))
    for option in sorted(new.keys() | old.keys()):
        if new.get(option) != old.get(option):
            raise UsageError(
                f"Sweep {name} was begun with {option} {old.get(option, 'left out')}, not "
                f"{new.get(option, 'left out')}: leave it as it was, or take another --name."
            )


def _told(settings: Settings) -> dict[str, str]:
    """What must not change, by name, as people write it."""
    space = {f"{name} (in the space)": as_written(of) for name, of in settings.space.items()}
    own = {"rungs": settings.rungs, "seeds": settings.seeds, "sampler": settings.sampler}
    told = {**dict(flat(settings.recipe)), **space, **own}
    return {name: json.dumps(value) for name, value in told.items()}
