"""Checks of what would fail later, made before a run begins."""

import inspect
import logging
import os
from shutil import which
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from cifar_lightning import lightning_internals
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli import own_parts
from cifar_lightning.cli.numerics import chosen_by_timing, uses_cuda_graphs
from cifar_lightning.cli.part_checks import takes_no_number
from cifar_lightning.cli.ranges import check_time
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.data.source import check_class_names
from cifar_lightning.errors import UsageError, UserError, counted
from cifar_lightning.models import AlexNet
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.folders import LoadedCheckpoint
from cifar_lightning.schedules import spans_run

log = logging.getLogger(__name__)


def check_together(
    trainer: Trainer,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    config: dict[str, Any],
    found: LoadedCheckpoint | None,
) -> None:
    """Whether trainer, module, data, the options that they were made from and the checkpoint go
    together. Raises UsageError or UserError."""
    if found is not None:
        check_classes(data, found)
    check_time(trainer)
    check_precision(trainer, config["trainer"]["precision"])
    check_length(config["model"], trainer)
    check_callbacks(trainer, data)
    check_compiler(trainer, model.computing.compile_mode)
    check_repeatable(trainer, model.computing.compile_mode, config["trainer"].get("deterministic"))
    check_processes(trainer, model, data)
    check_num_classes(config["model"]["net"], data)
    if found is not None:
        check_weights(model, found)
        check_code(config, found)


def checkpoints_of(trainer: Trainer) -> Checkpoints:
    """The trainer's callback that takes checkpoints."""
    return next(c for c in trainer.callbacks if isinstance(c, Checkpoints))


def check_precision(trainer: Trainer, asked: str | int | None) -> None:
    """Whether the device computes in the precision asked for. Raises UsageError."""
    # Lightning puts bf16 in its place and only warns
    if isinstance(trainer.accelerator, CPUAccelerator) and str(asked) in ("16", "16-mixed"):
        raise UsageError(
            f"--trainer.precision {asked}: a CPU cannot train in mixed float16; "
            "bf16-mixed works there."
        )
    if isinstance(trainer.accelerator, MPSAccelerator) and str(asked) in ("64", "64-true"):
        raise UsageError(
            f"--trainer.precision {asked}: Apple's GPUs have no float64; --trainer.accelerator cpu "
            "has it."
        )
    if (
        isinstance(trainer.accelerator, CUDAAccelerator)
        and str(asked).startswith("bf16")
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise UsageError(
            f"--trainer.precision {asked}: this GPU has no bfloat16; 16-mixed works there."
        )


def schedule_spans_run(model: dict[str, Any]) -> bool:
    """Whether the schedule needs to know how many steps the run has, by the model's options."""
    schedule = (model.get("lr_scheduler") or {}).get("init_args") or {}
    return spans_run(schedule, model.get("warmup") or 0.0)


def check_length(model_config: dict[str, Any], trainer: Trainer) -> None:
    """Whether a schedule that spans the run has a run that ends. Raises UsageError."""
    if schedule_spans_run(model_config) and trainer.max_epochs == -1 and trainer.max_steps == -1:
        raise UsageError(
            "--trainer.max_epochs -1: the learning-rate schedule spans the whole run, which must "
            "have an end."
        )


def check_callbacks(trainer: Trainer, data: CIFAR10DataModule) -> None:
    """Whether a run that validates nothing has what waits for validations. Raises UsageError."""
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping):
            check_validated(trainer, data, "EarlyStopping", callback.monitor)


def check_validated(trainer: Trainer, data: CIFAR10DataModule, who: str, monitor: str) -> None:
    """Whether anything is validated, where somebody waits for that. Raises UsageError."""
    without = "--data.val_size null" if data.val_size is None else "--trainer.limit_val_batches 0"
    if (data.val_size is None or trainer.limit_val_batches == 0) and monitor.startswith("val"):
        raise UsageError(
            f"{without}: nothing is validated, and {who} waits for {monitor}: leave one of the two "
            "out."
        )


def check_compiler(trainer: Trainer, mode: str | None) -> None:
    """Whether ``torch.compile`` has what it needs, and can do what is asked. Raises UsageError."""
    on_cpu, on_cuda = (
        isinstance(trainer.accelerator, a) for a in (CPUAccelerator, CUDAAccelerator)
    )
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++")
    if mode and on_cpu and not any(map(which, compilers)):
        raise UsageError(
            f"--model.compile {mode}: for a CPU it needs a C++ compiler; install g++, or leave it "
            "out."
        )
    # Triton's launchers are C
    if mode and on_cuda and not any(map(which, (os.environ.get("CC", "gcc"), "gcc", "clang"))):
        raise UsageError(
            f"--model.compile {mode}: for a GPU it needs a C compiler; install gcc, or leave it "
            "out."
        )
    # https://github.com/pytorch/pytorch/issues/169545: the next batch's graph overwrites gradients
    if on_cuda and uses_cuda_graphs(mode) and trainer.accumulate_grad_batches > 1:
        raise UsageError(
            f"--model.compile {mode} records CUDA graphs, which cannot add up gradients: leave out "
            "--trainer.accumulate_grad_batches, or use --model.compile default."
        )


def check_repeatable(trainer: Trainer, mode: str | None, deterministic: bool | str | None) -> None:
    """Whether algorithms are chosen by timing without this being asked for. Raises UsageError."""
    option = chosen_by_timing(trainer, mode)
    if option is not None and deterministic is not False:
        raise UsageError(
            f"{option} chooses algorithms by timing, so that no two runs need have the same bits: "
            "leave it out, or add --trainer.deterministic false."
        )


def has_batch_norm(model: ImageClassifier) -> bool:
    """Whether the network normalises images by the others of their batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def check_processes(trainer: Trainer, model: ImageClassifier, data: CIFAR10DataModule) -> None:
    """Whether several processes can do what one does. Raises UsageError."""
    count = trainer.world_size
    if not isinstance(
        trainer.strategy, SingleDeviceStrategy | DDPStrategy
    ) or lightning_internals.forks_processes(trainer):
        raise UsageError(
            f"--trainer.strategy {type(trainer.strategy).__name__}: several processes train with "
            "--trainer.strategy ddp here, by this command, torchrun or SLURM."
        )
    if count > data.batch_size:
        raise UsageError(
            f"--data.batch_size {data.batch_size} cannot be shared out among {count} processes."
        )
    if count > 1 and has_batch_norm(model) and isinstance(trainer.accelerator, CPUAccelerator):
        raise UsageError(
            f"--trainer.devices: {type(model.net).__name__} normalises over the batch, which torch "
            "can do over several processes on GPUs alone; train it in one process here."
        )


def check_num_classes(net: dict[str, Any], data: CIFAR10DataModule) -> None:
    """Whether a network takes the number of classes, and what is asked for by hand is that of the
    data. Raises UsageError.

    Args:
        net: class or function as ``class_path``, its arguments as ``init_args``.
        data: the data.
    """
    made, asked = own_parts.find(net["class_path"]), net.get("init_args", {}).get("num_classes")
    parameters = inspect.signature(made).parameters
    parameter = parameters.get("num_classes")
    if parameter is None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return  # a function that hands it on, or does not: trying the network tells
    if parameter is None:
        raise takes_no_number(made)
    # a network that has no default is handed that of the network it takes the place of
    inherited = inspect.signature(AlexNet).parameters["num_classes"].default
    if asked not in (None, data.num_classes, parameter.default, inherited):
        raise UsageError(
            f"--model.net.num_classes {asked}: the data have "
            f"{counted(data.num_classes, 'class')}, and the network takes their number from them; "
            "leave it out."
        )


def check_classes(data: CIFAR10DataModule, found: LoadedCheckpoint) -> None:
    """Whether the classes of the data are those that the checkpoint knows. Raises UserError."""
    before, now = found.ours.get("class_names"), list(check_class_names(data.source))
    if before is None or list(before) == now:
        return
    apart = [
        f"{', '.join(names[:5])}{', …' * (len(names) > 5)} {what}"
        for what, names in (
            ("among them alone", [name for name in now if name not in before]),
            ("missing", [name for name in before if name not in now]),
        )
        if names
    ]
    raise UserError(
        f"The classes of the data are not those that {found.path} was trained on "
        f"({' and '.join(apart) or 'their order is another'}): a label would mean another class; "
        "name and order them as they were."
    )


def check_images(fingerprint: str | None, found: LoadedCheckpoint) -> None:
    """Whether a run goes on with the images that it was trained on. Raises UserError."""
    before = found.ours.get("data")
    if before not in (None, fingerprint):
        raise UserError(
            f"The training images are not those that {found.path} was trained on "
            f"({fingerprint}; then {before}): bring them back, or start a new run."
        )


def check_weights(model: ImageClassifier, found: LoadedCheckpoint) -> None:
    """Whether the checkpoint's weights are those of this network. Raises UserError."""
    own, theirs = (
        {
            name: None if is_lazy(w) else tuple(w.shape)
            for name, w in state.items()
            if name.startswith("net.")
        }
        for state in (model.state_dict(), found.content["state_dict"])
    )
    for name in sorted(own.keys() | theirs.keys()):
        if name in own and name in theirs and own[name] is None:
            continue  # of a layer that takes its size from what is put into it
        if own.get(name) != theirs.get(name):
            raise UserError(
                f"{found.path} holds another network than {type(model.net).__name__} for "
                f"{getattr(model.net, 'num_classes', 'these')} classes: {name} is "
                f"{theirs.get(name, 'not there')} instead of {own.get(name, 'not there')}."
            )


def check_code(config: dict[str, Any], found: LoadedCheckpoint) -> None:
    """Say which files of the user's own are not what they were when a checkpoint was written."""
    before, now = found.ours.get("code", {}), own_parts.code_of(config)
    for module in (name for name, digest in now.items() if before.get(name, digest) != digest):
        log.warning(
            "The code of %s has changed since %s was written: what it computes may have, too.",
            module,
            found.path,
        )
