"""What a run's folder says of the run, whether it is finished, running or interrupted."""

import csv
import json
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

_NOT_THE_EXPERIMENT = (
    "ckpt_path", "dashboard", "seed_everything", "checkpoints.every_seconds",
    "trainer.devices", "trainer.num_nodes", "trainer.strategy",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What a run's folder says of it; what it does not say is None."""

    path: Path
    config: dict[str, Any]
    card: dict[str, Any]
    epochs: list[dict[str, float]]
    """Of each epoch that was validated: epoch (from 1) and the metrics logged with it."""
    test: float | None
    """Accuracy; with ``flip_averaging``, ``test_flip_averaged``."""
    test_flip_averaged: float | None
    status: str
    """``finished``, ``running`` or ``interrupted``."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def network(self) -> str:
        """Its class."""
        return _class(self.config["model"]["net"])

    @property
    def recipe(self) -> str:
        """Its config files, optimizer, schedule, batch, augmentation and precision in a few
        words."""
        model, data = self.config["model"], self.config["data"]
        optimizer = model.get("optimizer") or {}
        arguments = optimizer.get("init_args") or {}
        words = [_class(optimizer), f"lr {arguments.get('lr', '?')}"]
        if arguments.get("momentum"):
            words.append(f"momentum {arguments['momentum']}")
        if arguments.get("weight_decay"):
            words.append(f"decay {arguments['weight_decay']}")
        if arguments.get("nesterov"):
            words.append("Nesterov")
        text = [" ".join(words), f"batch {data['batch_size']}"]
        if model.get("lr_scheduler"):
            warm = f"warm-up {model['warmup']:g}, " if model.get("warmup") else ""
            text.append(warm + _class(model["lr_scheduler"]))
        if model.get("initialisation") not in (None, "default"):
            text.append(model["initialisation"])
        if model.get("label_smoothing"):
            text.append(f"smoothing {model['label_smoothing']:g}")
        if data.get("flip"):
            text.append("flip")
        text += [f"{name} {data[name]}" for name in ("translate", "cutout") if data.get(name)]
        callbacks = self.config["trainer"].get("callbacks") or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if _class(callback) == "AveragedWeights":
                decay = (callback.get("init_args") or {}).get("decay", "")
                text.append(f"averaged weights {decay}".strip())
        if (precision := self.config["trainer"].get("precision")) not in (None, 32, "32-true"):
            text.append(str(precision))
        configs = re.findall(r"--config[ =](\S+)", self.card.get("command", ""))
        names = "+".join(Path(config).stem for config in configs)
        return (f"{names}: " if names else "") + ", ".join(text)

    @property
    def data(self) -> str:
        return _class(self.config["data"]["source"])

    @property
    def best(self) -> dict[str, float] | None:
        """The epoch that its checkpoint was kept for."""
        monitor = self.config.get("checkpoints", {}).get("monitor", "val/acc")
        sign = -1 if monitor == "val/loss" else 1
        held = [epoch for epoch in self.epochs if monitor in epoch]
        return max(held, key=lambda epoch: sign * epoch[monitor], default=None)

    @property
    def chosen_on_test(self) -> bool:
        """Whether validation was on the test images, as the article does."""
        return bool(self.config["data"]["val_size"] == 0)

    def median(self, metric: str) -> float | None:
        values = [epoch[metric] for epoch in self.epochs if metric in epoch]
        return statistics.median(values) if values else None

    @property
    def experiment(self) -> str:
        """Equal for runs that differ in the seed alone; of those not finished, their own."""
        if self.status != "finished":
            return str(self.path)
        kept = {k: v for k, v in _flat(self.config) if not k.startswith(_NOT_THE_EXPERIMENT)}
        kept.pop("data.seed", None)
        # equal images may lie in different places, unequal ones in the same; null is left out, as
        # a config has it for options that an earlier version did not know
        images = self.card.get("data", {}).get("training_images")
        if images is not None:
            kept.pop("data.source.init_args.root", None)
        kept = {k: v for k, v in kept.items() if v is not None} | {"images": images}
        return json.dumps(kept, sort_keys=True)


def read_run(folder: Path) -> Run:
    """Read a run's folder, whether finished or not.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError: it is none.
    """
    configs = sorted(folder.glob("config-resume-*.yaml"), key=lambda f: int(f.stem.split("-")[2]))
    config = yaml.safe_load([folder / "config.yaml", *configs][-1].read_text())
    config["model"]["net"], config["data"]["source"], config["trainer"]["max_epochs"]
    epochs = _read_epochs(folder / "metrics.csv")
    done = max((int(epoch["epoch"]) for epoch in epochs), default=0)
    report = _json(folder / "test_report.json")
    flipped = _json(folder / "test_report_flip_averaged.json")
    enough = done >= (config["trainer"]["max_epochs"] or math.inf)
    finished = enough or ((folder / "summary.json").exists() and _max_steps_done(config, folder))
    status = "running" if _is_locked(folder) else "finished" if finished else "interrupted"
    return Run(
        folder, config, _json(folder / "card.json"), epochs, report.get("accuracy"),
        flipped.get("accuracy"), status,
    )  # fmt: skip


def _max_steps_done(config: dict[str, Any], folder: Path) -> bool:
    steps: int = _json(folder / "summary.json").get("global_step", 0)
    return 0 <= (config["trainer"].get("max_steps") or -1) <= steps


def _read_epochs(path: Path) -> list[dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    if not path.exists():
        return []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("epoch") and (row.get("val/acc") or row.get("train/acc_epoch")):
                number = int(row["epoch"]) + 1
                values = {k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")}
                epochs.setdefault(number, {"epoch": number}).update(values)
            elif row.get("epoch") and row.get("speed/images_per_second"):
                number = int(row["epoch"]) + 1
                epochs.setdefault(number, {"epoch": number})["speed/images_per_second"] = float(
                    row["speed/images_per_second"]
                )
    # an epoch that is not over has no mean yet
    return [epoch for epoch in epochs.values() if "val/acc" in epoch or "train/acc_epoch" in epoch]


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text()) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no object")
    return content


def _is_locked(folder: Path) -> bool:
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that one may only read: of somebody else's run nothing is known
        return False


def _class(value: dict[str, Any]) -> str:
    path: str = value["class_path"]
    return path.rpartition(".")[2]


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
