"""What a run was: command, versions, device, commit, data, network, choices."""

import json
import logging
import platform
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.models.cost import count_parameters, flops_per_image
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.loggers import to_tensorboard

log = logging.getLogger(__name__)

_PACKAGES = ("cifar_lightning", "torch", "torchvision", "pytorch-lightning", "torchmetrics")


class Card(Callback):
    """Writes ``card.json`` into the run's folder and the same into TensorBoard's tab of texts, with
    the configuration. A resumed run adds a text at the step where it went on.

    ``card.json``: command, started (ISO 8601, local time), versions, device, git (commit, clean;
    null outside a checkout), data (source, images), network (name, parameters, flops_per_image:
    a multiplication and an addition are two).
    """

    def __init__(self, data: CIFAR10DataModule) -> None:
        self._data = data

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or not trainer.is_global_zero:
            return
        facts = self._facts(trainer, pl_module)
        path = checkpoints.run_folder(trainer) / "card.json"
        if not path.exists():
            path.write_text(json.dumps(facts, indent=2) + "\n")
        # a list: TensorBoard breaks the words in the first column of a table
        rows = [f"- **{name}**: {_cell(value)}" for name, value in facts.items()]
        config = yaml.safe_dump(checkpoints.config, sort_keys=False).replace("\n", "\n    ")
        text = "\n".join([*rows, "", "The configuration:", "", f"    {config}"])
        step = trainer.global_step
        to_tensorboard(trainer, lambda writer: writer.add_text("card", text, step))

    def _facts(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        net = pl_module.net
        assert isinstance(net, torch.nn.Module)
        side = self._data.image_side
        return {
            "command": shlex.join(["python", "-m", "cifar_lightning", *sys.argv[1:]]),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": versions(),
            "device": _devices(trainer),
            "git": git_state(),
            "data": {
                "source": type(self._data.source).__name__,
                "training_images": self._data.fingerprint,
                "split": self._data.description,
            },
            "network": {
                "name": type(net).__name__,
                "parameters": count_parameters(net),
                "flops_per_image": flops_per_image(net, side),
            },
        }


class Graph(Callback):
    """The network's graph, in TensorBoard's tab of that name."""

    def __init__(self, data: CIFAR10DataModule) -> None:
        self._data = data

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        net = pl_module.net
        if trainer.global_step or not isinstance(net, torch.nn.Module):
            return
        parameter = next(net.parameters())
        image = torch.zeros(1, 3, self._data.image_side, self._data.image_side).to(parameter)
        training = net.training
        net.eval()  # to look at a network must not change its statistics, nor draw numbers
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # TensorBoard's graphs know no other way than torch.jit.trace
                warnings.filterwarnings("ignore", message=".*torch.jit.trace.*deprecated")
                to_tensorboard(trainer, lambda writer: writer.add_graph(net, image))
        except RuntimeError as error:  # a network need not be one that can be traced
            log.warning("TensorBoard gets no graph of the network: %s", str(error).split("\n")[0])
        finally:
            net.train(training)


class HParams(Callback):
    """The run's choices against its results, in TensorBoard's tab of that name; also logs the best
    value so far of the monitored metric, as ``best/…``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.global_step:
            return
        chosen = dict(choices(checkpoints.config or {}))
        results = (f"best/{checkpoints.monitor}", "val/loss", "test/acc", _SECONDS)
        experiment, start, _ = hparams(chosen, dict.fromkeys(results, 0))

        def write(writer: Any) -> None:
            writer.file_writer.add_summary(experiment)
            writer.file_writer.add_summary(start)

        to_tensorboard(trainer, write)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.sanity_checking:
            return
        best = checkpoints.better_of(trainer.callback_metrics.get(checkpoints.monitor))
        if best is not None:
            to_tensorboard(
                trainer,
                lambda w: w.add_scalar(f"best/{checkpoints.monitor}", best, trainer.global_step),
            )


_SECONDS = "speed/seconds_per_epoch"
# What does not change the experiment.
_NO_CHOICES = ("ckpt_path", "dashboard", "checkpoints", "data.source", "data.seed", "config")
_TRAINER_CHOICES = ("max_epochs", "gradient_clip_val", "accumulate_grad_batches")
_ALWAYS = ("lr", "momentum")  # of what an optimizer is given; the rest where it is not off


def choices(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A run's choices by their short names: ``lr``, ``momentum``, ``batch_size``, ``net``, …"""
    model, data, trainer = (config.get(name) or {} for name in ("model", "data", "trainer"))
    yield "seed", config.get("seed_everything", "")
    yield "source", _class(data.get("source"))
    for name, value in data.items():
        if f"data.{name}" not in _NO_CHOICES:
            yield name, _plain(value)
    for part, prefix in (("net", ""), ("optimizer", ""), ("lr_scheduler", "schedule.")):
        yield part, _class(model.get(part))
        for name, value in ((model.get(part) or {}).get("init_args") or {}).items():
            if name in _ALWAYS or value not in (None, False, 0):
                yield f"{prefix}{name}", _plain(value)
    for name in ("warmup", "label_smoothing", "initialisation"):
        if model.get(name) not in (None, 0, "default"):
            yield name, _plain(model[name])
    yield "precision", _plain(trainer.get("precision") or "32-true")
    for name in _TRAINER_CHOICES:
        if trainer.get(name) not in (None, 1):
            yield name, _plain(trainer[name])


def device_name(device: torch.device) -> str:
    """What computes, in words: the GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].split(":")[1].strip() if models else name
    threads = torch.get_num_threads()
    what = "thread" if threads == 1 else "threads"
    return f"{device.type}: {name or platform.machine()}, {threads} {what}"


def _devices(trainer: Trainer) -> str:
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    return count + device_name(trainer.strategy.root_device)


def versions() -> dict[str, str]:
    """Of Python and the packages that results depend on."""
    own = {"python": platform.python_version()}
    return own | {name: version(name) for name in _PACKAGES}


def git_state() -> dict[str, Any] | None:
    """Commit of this code and whether the checkout was clean; None when it lies in none."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not just a folder within another
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError):
        return None


def _class(value: Any) -> str:
    return value["class_path"].rpartition(".")[2] if isinstance(value, dict) else str(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
