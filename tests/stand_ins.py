"""What tests put in the place of the real thing, by class path on the command line."""

import atexit
import copy
import errno
import json
import os
import random
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BaseFinetuning, Timer, WeightAveraging
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor, nn
from torchmetrics import Metric
from torchvision.transforms import v2

from cifar_lightning import ImageClassifier
from cifar_lightning.errors import UserError


class Tiny(nn.Module):
    """A network that trains in no time."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Convolution(nn.Module):
    """A network with filters to look at."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(196, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class AnySide(Tiny):
    """A network for images of any size."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.layers[0] = nn.AdaptiveAvgPool2d(8)


class Required(Tiny):
    """A network that must be told the number of classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)


class OneOutput(Tiny):
    """A network that does not do what it is asked."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(1)


class Viewing(Convolution):
    """Takes maps for rows, as much code does: ``view`` raises where they are channels last."""

    def forward(self, images: Tensor) -> Tensor:
        convolution, relu, _, linear = self.layers
        logits: Tensor = linear(relu(convolution(images)).view(len(images), -1))
        return logits


class MeanSquares(nn.Module):
    """A loss of one's own: how far probabilities are from the truth."""

    def __init__(self, scale: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        self._scale = scale
        self._classes = classes

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        truth = nn.functional.one_hot(labels, self._classes)
        return self._scale * (logits.softmax(dim=1) - truth).square().mean()


class Tempered(nn.Module):
    """A loss with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits / self.temperature, labels)


class Confidence(Metric):
    """A metric of one's own: the mean probability of the class that is chosen."""

    total: Tensor
    images: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        self.total += probabilities.max(dim=1).values.sum()
        self.images += len(labels)

    def compute(self) -> Tensor:
        return self.total / self.images


class KillWhileSaving(Callback):
    """Kills its own process in the midst of the second checkpoint that it saves.

    Args:
        when: the share of the file's bytes after which, or before or after ``fsync`` or
            ``rename``.
    """

    def __init__(self, when: str) -> None:
        self._when = when
        self._saves = 0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._saves += 1
        if self._saves == 2:
            trainer.strategy.checkpoint_io = _Killed(trainer.strategy.checkpoint_io, self._when)


class _Killed(CheckpointIO):
    def __init__(self, real: CheckpointIO, when: str) -> None:
        self._real = real
        self._when = when

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        fsync, rename, open_file = os.fsync, Path.replace, Path.open

        def kill(*here: str) -> None:
            if self._when in here:
                kill_self()

        def watched_fsync(descriptor: int) -> None:
            kill("before fsync")
            fsync(descriptor)
            kill("after fsync")

        def watched_rename(path: Path, target: Path) -> Path:
            kill("before rename")
            renamed = rename(path, target)
            kill("after rename")
            return renamed

        def watched_open(path: Path, mode: str = "r", **kwargs: Any) -> Any:
            file = open_file(path, mode, **kwargs)
            share = float(self._when) if self._when[0] == "0" else 1.0
            return _Cut(file, share, kill_self) if "w" in mode and share < 1 else file

        os.fsync = watched_fsync  # type: ignore[assignment]
        Path.replace = watched_rename  # type: ignore[method-assign,assignment]
        Path.open = watched_open  # type: ignore[method-assign,assignment]
        self._real.save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        return self._real.load_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        self._real.remove_checkpoint(path)


class CutWhileWriting(Callback):
    """Lets a file of the run be written half.

    Args:
        name: of the file.
        how: ``killed``, the process; or ``refused``, by the disk.
    """

    def __init__(self, name: str, how: str) -> None:
        cut_off(name, {"killed": kill_self, "refused": refuse}[how])


def cut_off(name: str, end: Callable[[], None]) -> None:
    """From now on call ``end`` when half of a file, or of one beside it, has been written."""
    open_file = Path.open

    def watched_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = open_file(path, mode, *args, **kwargs)
        return _Cut(file, 0.5, end) if name in path.name and "w" in mode else file

    Path.open = watched_open  # type: ignore[method-assign,assignment]


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class _Cut:
    """A file that writes a share of what it is given, and then calls ``end``."""

    def __init__(self, file: Any, share: float, end: Callable[[], None]) -> None:
        self._file = file
        self._share = share
        self._end = end

    def __enter__(self) -> "_Cut":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def write(self, content: Any) -> None:
        self._file.write(content[: int(len(content) * self._share)])
        self._file.flush()
        self._end()


class SignalAt(Callback):
    """Sends its own process a signal at a chosen point.

    Args:
        hook: the name of the callback's hook.
        signal_name: SIGKILL, SIGTERM or SIGINT.
        call: at which call of the hook, counted from 0 in this process.
        times: how many of them.
        rank: the process that does it, of several.
    """

    def __init__(
        self, hook: str, signal_name: str, call: int = 0, times: int = 1, rank: int = 0
    ) -> None:
        self._times = times
        self._rank = rank
        self._signum = getattr(signal, signal_name)
        self._calls_left = call
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.sanity_checking or trainer.global_rank != self._rank:
            return
        if self._calls_left == 0:
            for _ in range(self._times):
                os.kill(os.getpid(), self._signum)
        self._calls_left -= 1


class StopAt(Callback):
    """Asks the trainer to stop, as Lightning's Timer does after a batch and its EarlyStopping
    after a validation.

    Args:
        hook: the name of the callback's hook.
        call: at which call of the hook, counted from 0.
    """

    def __init__(self, hook: str, call: int) -> None:
        self._calls_left = call
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.sanity_checking:
            return
        if self._calls_left == 0:
            trainer.should_stop = True
        self._calls_left -= 1


class Witness(Callback):
    """Writes what it sees of a run into ``witness.json``."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {"sanity_batches": 0, "validation_batches": 0}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        biases = [p.abs().max() for p in pl_module.parameters() if p.ndim == 1]
        self._seen["largest_bias"] = max(map(float, biases))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 0:
            self._seen |= {
                "darkest": float(batch[0].min()),
                "brightest": float(batch[0].max() - batch[0].min()) / 2,
                "dtype": str(batch[0].dtype),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
                "benchmark": torch.backends.cudnn.benchmark,
                "anomaly": torch.is_anomaly_enabled(),
            }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        sizes = torch.cat(
            [p.grad.abs().flatten() for p in pl_module.parameters() if p.grad is not None]
        )
        self._seen["largest_gradient"] = float(sizes.max())
        self._seen["equal_gradients"] = int((sizes == sizes.max()).sum()) > 1

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any
    ) -> None:
        kind = "sanity_batches" if trainer.sanity_checking else "validation_batches"
        self._seen[kind] = args[2] + 1
        self._seen["inference_mode"] = torch.is_inference_mode_enabled()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.validating:
            Path("witness.json").write_text(json.dumps(self._seen))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen["steps"] = trainer.global_step
        Path("witness.json").write_text(json.dumps(self._seen))


class Fails(Callback):
    """Fails in one of several processes, before its sixth batch.

    Args:
        rank: the process.
        kind: of the error, ``UserError`` or ``KeyError``.
    """

    def __init__(self, rank: int, kind: str) -> None:
        self._rank = rank
        self._error = {"UserError": UserError, "KeyError": KeyError}[kind]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 5 and trainer.global_rank == self._rank:
            raise self._error("the disk of this machine is on fire.")


class OnCUDA(Callback):
    """Meets, in each step, an operation without a deterministic implementation, as torch says it;
    and writes down, in place of compiling, how the run is set up."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, ImageClassifier)
        pl_module.computing.compile_mode = None
        self._inference_mode: list[bool] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if torch.are_deterministic_algorithms_enabled():
            warnings.warn(
                "upsample_cuda does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True, warn_only=True)'. You can file an issue "
                "at https://github.com/pytorch/pytorch/issues to help us prioritize it.",
                stacklevel=1 + batch_idx,
            )

    def on_validation_batch_start(self, *_: Any) -> None:
        self._inference_mode.append(torch.is_inference_mode_enabled())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seen = {
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "fills": torch.utils.deterministic.fill_uninitialized_memory,
            "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            "inference_mode": any(self._inference_mode),
        }
        Path("seen.json").write_text(json.dumps(seen))


class LeavesLikeNCCL(Callback):
    """Makes leaving the process group collective, and a thing of the program's last moment too:
    so NCCL has it, and Lightning with NCCL."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        leave = dist.destroy_process_group

        def leave_together(group: Any = None) -> None:
            dist.barrier()
            leave(group)

        def leave_at_exit() -> None:
            if dist.is_initialized():
                dist.destroy_process_group()

        dist.destroy_process_group = leave_together
        atexit.register(leave_at_exit)


class TimeIsUp(Callback):
    """Lets the time of the second of two processes be up after its tenth step, and lets nobody ask
    the others for it by a broadcast in the midst of training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def refuse(*_: Any) -> None:
            raise AssertionError("a broadcast at a batch's end")

        self._broadcast = trainer.strategy.broadcast
        trainer.strategy.broadcast = refuse  # type: ignore[method-assign,assignment]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 10 and trainer.global_rank == 1:
            for timer in (c for c in trainer.callbacks if isinstance(c, Timer)):
                timer.time_remaining = lambda stage="train": 0.0  # type: ignore[method-assign]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.broadcast = self._broadcast  # type: ignore[method-assign]


class Forget(Callback):
    """Loses one thing that a checkpoint holds, while a run is resumed from it.

    Args:
        what: ``position``, ``metric sums``, ``optimizer``, ``scheduler`` or ``logs``.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._what == "position":
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["current"] = dict.fromkeys(progress["current"], 0)
        elif self._what == "metric sums":
            assert isinstance(pl_module, ImageClassifier)
            pl_module.meter.reset()
        elif self._what == "optimizer":
            checkpoint["optimizer_states"][0]["state"] = {}
        elif self._what == "scheduler":
            checkpoint["lr_schedulers"][0].update(last_epoch=0, _step_count=1)
        elif self._what == "logs":
            checkpoint["cifar_lightning"]["logs"] = {}


class DiskFull(Callback):
    """Lets no file be brought to disk between two steps.

    Args:
        first: the step from which on it is refused.
        last: the step from which on it works again.
    """

    def __init__(self, first: int, last: int) -> None:
        self._refused = range(first, last)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fsync = os.fsync

        def refuses(descriptor: int) -> None:
            if trainer.global_step in self._refused:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        os.fsync = refuses  # type: ignore[assignment]


class NoSynchronisation(Callback):
    """Makes every wait for the GPU an error, from an epoch's third batch to its third last."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        within = 2 <= batch_idx < trainer.num_training_batches - 3
        torch.cuda.set_sync_debug_mode("error" if within else "default")


class Dropping(nn.Module):
    """A network that draws random numbers, from each global generator that there is."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(192, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            images = v2.RandomErasing(0.5)(images) * (0.9 + 0.2 * random.random())
            images = images + 0.01 * float(np.random.randn())
        logits: Tensor = self.layers(images)
        return logits


class DrawingLoss(nn.Module):
    """A loss that draws random numbers, in validation too."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        noise = torch.randn_like(logits) * 0.1
        return nn.functional.cross_entropy(logits + noise, labels)


class DrawsAtHooks(Callback):
    """Draws at hooks, and adds what it drew to a weight or logs it."""

    def _shake(self, pl_module: LightningModule) -> None:
        weight = next(pl_module.parameters())
        with torch.no_grad():
            weight.add_(1e-3 * (torch.rand(()) + random.random() + np.random.rand()))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shake(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._shake(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._shake(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.rand(3)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._shake(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shake(pl_module)


class Thaw(BaseFinetuning):
    """Trains a network's last bias from the second epoch on, without its dropout and with small
    gradients: everything that a callback sets once and nothing sets again."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        list(pl_module.parameters())[-1].requires_grad = False

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            list(pl_module.parameters())[-1].requires_grad = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        if trainer.current_epoch == 1:
            trainer.gradient_clip_val = 0.01
            for module in pl_module.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()


class MyAverage(WeightAveraging):
    """As Lightning's documentation has it."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= 100


class CopiesTheModule(Callback):
    """As averages of one's own do."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        other = copy.deepcopy(pl_module)
        assert next(other.parameters()) is not next(pl_module.parameters())
        assert isinstance(other, ImageClassifier)
        other.configure_optimizers()


def images_in(batch: Any) -> int:
    """How many images a batch has."""
    return len(batch[1])


def say(*_: Any) -> None:
    print("said")


class Service(Logger):
    """A tracker as W&B and MLflow are: it names a run that begins, and is told by ``run_id`` which
    to go on with. Refuses hyper-parameters that change.

    Args:
        place: the folder that stands for the service.
        run_id: the run to go on with.
    """

    def __init__(self, place: str = "service", run_id: str | None = None) -> None:
        super().__init__()
        self._place, self._id = Path(place), run_id

    @property
    def name(self) -> str:
        return "service"

    @property
    def version(self) -> str | None:
        return self._id

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self._id = self._id or f"run{len(list(self._place.glob('run*.jsonl')))}"
        self._place.mkdir(exist_ok=True)
        kept = self._place / f"{self._id}.json"
        text = json.dumps(params, sort_keys=True)
        if kept.exists() and kept.read_text() != text:
            raise ValueError("changing a parameter is not allowed")
        kept.write_text(text)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with (self._place / f"{self._id}.jsonl").open("a") as file:
            file.write(json.dumps({**{k: float(v) for k, v in metrics.items()}, "step": step}))
            file.write("\n")


class Renamed(Service):
    """One whose argument has another name, and which hands the others on."""

    def __init__(self, version: str | None = None, **others: Any) -> None:
        super().__init__(run_id=version, **others)


class Forgetful(Service):
    """One that cannot be told where it was."""

    def __init__(self, place: str = "forgetful") -> None:
        super().__init__(place)
