"""What a run is, for TensorBoard and ``card.json``: provenance, data, network, choices."""

import logging
import shlex
import sys
import warnings
from datetime import datetime
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.models.cost import count_parameters, flops_per_image
from cifar_lightning.models.weights import Taken
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.config import RunConfig
from cifar_lightning.runs.files import write_json
from cifar_lightning.runs.loggers import to_tensorboard
from cifar_lightning.runs.provenance import device_name, git_state, numerics, versions

log = logging.getLogger(__name__)


class Card(Callback):
    """Writes ``card.json`` into the run's folder, and the same with the configuration into
    TensorBoard's Text tab. A resumed run adds a text at the step where it goes on.

    ``card.json``: command, started (ISO 8601, local time), versions, device, numerics (of an NVIDIA
    GPU), git (commit, clean; null outside a checkout), data (source, images), network (name,
    parameters, flops_per_image: a multiplication and an addition are two),
    weights (of a run that started from some: file, sha256, taken, fresh, unused).
    """

    def __init__(self, data: CIFAR10DataModule) -> None:
        self._data = data

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or not trainer.is_global_zero:
            return
        if trainer.fast_dev_run:  # it has no folder
            return
        facts = self._facts(trainer, pl_module)
        path = checkpoints.run_folder(trainer) / "card.json"
        if not path.exists():
            write_json(path, facts)
        if name := RunConfig(checkpoints.config or {}).name:  # config.yaml has it for scripts
            facts = {"name": name, **facts}
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
        taken = getattr(pl_module, "taken", None)
        return {
            "command": shlex.join(["python", "-m", "cifar_lightning", *sys.argv[1:]]),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": versions(),
            "device": _devices(trainer),
            "numerics": numerics(trainer.strategy.root_device),
            "git": git_state(),
            "data": {
                "source": type(self._data.source).__name__,
                "training_images": self._data.fingerprint,
                "split": self._data.splits.description,
            },
            "network": {
                "name": type(net).__name__,
                "parameters": count_parameters(net),
                "flops_per_image": flops_per_image(net, side),
            },
            **({"weights": taken.facts()} if isinstance(taken, Taken) else {}),
        }


class Graph(Callback):
    """Shows the network in TensorBoard's Graphs tab."""

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
    """Shows the run's choices and results in TensorBoard's HParams tab, and logs the best value so
    far of the monitored metric as ``best/…``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.global_step:
            return
        chosen = RunConfig(checkpoints.config or {}).choices
        results = (
            f"best/{checkpoints.best.monitor}",
            "val/loss",
            "test/acc",
            "speed/seconds_per_epoch",
        )
        experiment, start, _ = hparams(chosen, dict.fromkeys(results, 0))

        def write(writer: Any) -> None:
            writer.file_writer.add_summary(experiment)
            writer.file_writer.add_summary(start)

        to_tensorboard(trainer, write)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = trainer.checkpoint_callback
        if not isinstance(checkpoints, Checkpoints) or trainer.sanity_checking:
            return
        monitor, step = checkpoints.best.monitor, trainer.global_step
        score = checkpoints.best.better_of(trainer.callback_metrics.get(monitor))
        if score is not None:
            to_tensorboard(trainer, lambda w: w.add_scalar(f"best/{monitor}", score, step))


def _devices(trainer: Trainer) -> str:
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    return count + device_name(trainer.strategy.root_device)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
