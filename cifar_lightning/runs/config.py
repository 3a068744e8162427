"""A run's configuration, as ``config.yaml`` and the run's checkpoints hold it.

Nothing here imports torch: ``compare`` shall answer at once.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cifar_lightning.runs.files import write_text

OF_THE_COMMAND = ("ckpt_path", "config", "verbose", "weights_only", "return_predictions")
"""Options that describe one call of a command; a resumed run does not inherit them."""

NOT_THE_EXPERIMENT = (
    *OF_THE_COMMAND,
    "seed_everything", "data.seed",  # the same experiment, repeated
    "run_name",
    "trainer.devices", "trainer.num_nodes", "trainer.strategy",  # change the speed alone
    "model.memory_format",
    "checkpoints.every_seconds", "dashboard",  # keep and show what is computed anyway
    "trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar",
    "trainer.default_root_dir", "trainer.profiler",
    "trainer.max_time",  # a run that it has ended is told apart by its summary
)  # fmt: skip
"""Options in which two runs of one experiment may differ. A name covers everything below it."""

PLACE = ("data.source.init_args.root", "data.source.init_args.mirrors")
"""Options that say where a source finds its images, not which they are."""


_LENGTH = ("trainer.max_epochs", "trainer.max_steps")


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a nested configuration with its dotted name, as in
    ``data.source.init_args.root``."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_in(name: str, names: Iterable[str]) -> bool:
    """Whether a dotted name is one of ``names``, or below one of them."""
    return any(name == other or name.startswith(f"{other}.") for other in names)


def same_source(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two configurations have the same source of images, wherever these lie.

    Args:
        before: that of a run; options that its version did not have are not compared.
        now: the other.
    """
    old, new = (
        dict(flat({"data": {"source": _dict(config, "data").get("source")}}))
        for config in (before, now)
    )
    return all(
        value == new.get(name) for name, value in old.items() if value and not is_in(name, PLACE)
    )


def class_name(value: Any) -> str:
    """Return the last part of an import path, given as it is or as ``class_path``."""
    path = value.get("class_path") if isinstance(value, dict) else value
    return str(path).rpartition(".")[2]


class RunConfig:
    """A read-only view of a run's configuration.

    One written by an earlier version lacks newer options: a missing option reads as null.

    Args:
        content: plain values, as they stand in ``config.yaml``.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.model, self.data = _dict(content, "model"), _dict(content, "data")
        self.trainer = _dict(content, "trainer")
        self.name = str(content.get("run_name") or "")
        """What the user calls the run; empty if nothing."""
        self.network = class_name(self.model.get("net"))
        self.source = class_name(self.data.get("source"))
        self.mean, self.std = (tuple(self.data.get(name) or ()) for name in ("mean", "std"))
        """What the images are normalised with, of each channel."""
        self.monitor = str(_dict(content, "checkpoints").get("monitor") or "val/acc")
        """The metric that checkpoints are kept for."""
        self.chosen_on_test = self.data.get("val_size") == 0
        """Whether validation was on the test images, as the article does."""
        self.validates = (
            self.data.get("val_size", 0) is not None and self.trainer.get("limit_val_batches") != 0
        )
        """Whether it was on any images: else no epoch is the best."""

    def experiment(self, images: str | None) -> str:
        """Return a text that is equal for runs that differ in the seed alone.

        Args:
            images: the fingerprint of the training images. If it is known, it does not matter in
                which folder they were.
        """
        moved = () if images is None else PLACE
        kept = {
            name: value
            for name, value in flat(self.content)
            if value is not None and not is_in(name, (*NOT_THE_EXPERIMENT, *moved))
        }
        return json.dumps({**kept, "images": images}, sort_keys=True)

    @property
    def recipe(self) -> str:
        """Optimizer, batch, schedule, augmentation and precision in a few words."""
        model, data = self.model, self.data
        given = _dict(model.get("optimizer"), "init_args")
        named = (("sgd_lr", "sgd_lr"), ("momentum", "momentum"), ("weight_decay", "decay"))
        optimizer = [class_name(model.get("optimizer")), f"lr {given.get('lr', '?')}"]
        optimizer += [f"{word} {given[name]}" for name, word in named if given.get(name)]
        optimizer += ["Nesterov"] if given.get("nesterov") else []
        parts = [" ".join(optimizer), f"batch {data.get('batch_size')}"]
        if model.get("lr_scheduler"):
            warm = f"warm-up {model['warmup']:g}, " if model.get("warmup") else ""
            parts.append(warm + class_name(model["lr_scheduler"]))
        if model.get("initialisation") not in (None, "default"):
            parts.append(model["initialisation"])
        if model.get("loss"):
            arguments = _dict(model["loss"], "init_args").items()
            parts.append(" ".join([class_name(model["loss"]), *(f"{k} {v}" for k, v in arguments)]))
        if model.get("weights"):
            parts.append(f"from {model['weights']}")
        if model.get("label_smoothing"):
            parts.append(f"smoothing {model['label_smoothing']:g}")
        if flip := data.get("flip"):
            parts.append("flip" if flip is True else f"{flip} flip")
        augmented = ("translate", "cutout", "jitter")
        parts += [f"{name} {data[name]}" for name in augmented if data.get(name)]
        callbacks = self.trainer.get("callbacks") or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if class_name(callback) == "AveragedWeights":
                decay = _dict(callback, "init_args").get("decay", "")
                parts.append(f"averaged weights {decay}".strip())
        if (precision := self.trainer.get("precision")) not in (None, 32, "32-true"):
            parts.append(str(precision))
        return ", ".join(parts)

    @property
    def choices(self) -> dict[str, bool | int | float | str]:
        """What was chosen, by short names: name, seed, source, net, optimizer, lr, batch_size, …"""
        model, data, trainer = self.model, self.data, self.trainer
        chosen: dict[str, Any] = {"name": self.name} if self.name else {}
        chosen |= {"seed": self.content.get("seed_everything"), "source": self.source}
        chosen |= {name: data[name] for name in data if name not in ("source", "seed")}
        parts = [("net", ""), ("optimizer", ""), ("lr_scheduler", "schedule.")]
        parts += [("loss", "loss.")] if model.get("loss") else []
        for part, prefix in parts:
            chosen[part] = class_name(model.get(part))
            for name, value in _dict(model.get(part), "init_args").items():
                if name in ("lr", "momentum") or value not in (None, False, 0):
                    chosen[prefix + name] = value
        for name in ("warmup", "label_smoothing", "initialisation"):
            if model.get(name) not in (None, 0, "default"):
                chosen[name] = model[name]
        chosen["precision"] = trainer.get("precision") or "32-true"
        for name in ("max_epochs", "gradient_clip_val", "accumulate_grad_batches"):
            if trainer.get(name) not in (None, 1):
                chosen[name] = trainer[name]
        return {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in chosen.items()
        }


def read_config(run: Path) -> RunConfig:
    """Read the configuration that a run was last started with.

    Raises:
        OSError: there is no such file.
        ValueError: the file holds no configuration of a run.
    """
    path = _configs(run)[-1]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no options")
    config = RunConfig(content)
    if config.model.get("net") is None or config.data.get("source") is None:
        raise ValueError(f"{path.name} names no network or no data")
    return config


def was_changed(run: Path) -> bool:
    """Whether a run has gone on with other options than it began with; a greater length is none.

    Options that the version of one start did not have are not compared.

    Raises:
        OSError, ValueError: as ``read_config``.
    """
    starts = [
        re.sub(r"(?m)^ckpt_path:.*$", "", path.read_text(encoding="utf-8"))
        for path in _configs(run)
    ]
    texts = dict.fromkeys(starts)
    if len(texts) == 1:
        return False
    may = (*NOT_THE_EXPERIMENT, *PLACE, *_LENGTH)
    try:
        first, *others = [dict(flat(yaml.safe_load(text))) for text in texts]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return any(
        first[name] != other[name]
        for other in others
        for name in first.keys() & other.keys()
        if not is_in(name, may)
    )


def _configs(run: Path) -> list[Path]:
    """The configurations that a run was started with, in order."""
    resumed = sorted(run.glob("config-resume-*.yaml"), key=lambda f: int(f.stem.split("-")[2]))
    return [run / "config.yaml", *resumed]


def write_config(run: Path, content: dict[str, Any]) -> None:
    """Write ``config.yaml``, or ``config-resume-N.yaml`` if the run has been started before.

    Raises:
        UserError: the disk refuses.
    """
    path, number = run / "config.yaml", 1
    while path.exists():
        path, number = run / f"config-resume-{number}.yaml", number + 1
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def _dict(value: Any, name: str) -> dict[str, Any]:
    """Return an entry if it is a dictionary, else an empty one."""
    entry = value.get(name) if isinstance(value, dict) else None
    return entry if isinstance(entry, dict) else {}
