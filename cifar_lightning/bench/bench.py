"""``bench``: what training costs on this machine, beside the same training written by hand."""

import contextlib
import gc
import io
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lightning.bench.limit import WARM_UP, Limit
from cifar_lightning.bench.plain_loop import PlainLoop
from cifar_lightning.bench.table import table
from cifar_lightning.bench.whole_processes import peak_memory, start_up
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.fit import checkpoints_of, open_run_folder
from cifar_lightning.cli.lightning_cli import CLI, start
from cifar_lightning.cli.messages import quiet_lightning
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UsageError
from cifar_lightning.optimizers.parameters import fuse
from cifar_lightning.runs.files import write_json
from cifar_lightning.runs.provenance import device_name, versions

# Many short rounds rather than few long ones: what a machine does beside it drifts.
_ROUNDS = 8
_SECONDS = 2.5  # that a round of one loop is to take
_FEWEST = 25  # steps of a round


class Bench(CLI):
    """Takes what ``fit`` takes, and measures instead of training."""

    def fit(self, model: ImageClassifier, **kwargs: Any) -> None:
        data: CIFAR10DataModule = self.datamodule
        data.prepare_data()
        data.setup("fit")
        device = self.trainer.strategy.root_device
        with (
            tempfile.TemporaryDirectory() as self.folder,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            report = {
                "device": device_name(device),
                "versions": versions(),
                "network": type(model.net).__name__,
                "data": type(data.source).__name__,
                "batch_size": data.batch_size,
                "precision": str(self.trainer.precision),
                **self._measure(PlainLoop(model, data, self.trainer)),
            }
        path = Path("bench.json")
        write_json(path, report)
        print(f"{table(report)}\n\n{path}")

    def _measure(self, by_hand: PlainLoop) -> dict[str, Any]:
        _say("choosing the fastest form of plain PyTorch, steps and loader processes")
        limit = by_hand.limit()
        fastest, tried = limit.fastest()
        # within one epoch: what its end costs is measured apart
        most = len(self.datamodule.train_dataloader()) - WARM_UP - 1
        steps = int(min(most, max(_FEWEST, _SECONDS / tried[fastest])))
        if steps < 1:
            raise UsageError("An epoch of these data is too short to measure a step in.")
        workers = by_hand.best_workers()
        loops: dict[str, Callable[[], float]] = {
            "limit": lambda: limit.loop(fastest)(steps),
            "article": lambda: by_hand.article(steps, workers),
            "fit": lambda: self._fit(steps),
            "barebones": lambda: self._barebones(steps),
        }
        seconds: dict[str, list[float]] = defaultdict(list)
        for number in range(_ROUNDS):
            for name, loop in loops.items():
                _say(f"round {number + 1} of {_ROUNDS}: {name}")
                gc.collect()
                seconds[name].append(loop())
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        _say("a step part by part, an epoch's end, start-up")
        parts = by_hand.anatomy(steps // 2)
        parts["everything else"] = medians["fit"] - sum(parts.values())
        return {
            "rounds": _ROUNDS,
            "steps": steps,
            "article_workers": workers,
            "limit_is": str(fastest),
            "limit_tried_ms": {str(variant): 1e3 * value for variant, value in tried.items()},
            "matrix_product": _share(limit, medians["fit"]),
            "step_ms": {
                name: {"median": 1e3 * medians[name], "all": [1e3 * value for value in values]}
                for name, values in seconds.items()
            },
            "fit_to_limit": _of_rounds(truediv, seconds["fit"], seconds["limit"]),
            "fit_to_article": _of_rounds(truediv, seconds["fit"], seconds["article"]),
            "fit_minus_barebones_us": _of_rounds(
                lambda ours, theirs: 1e6 * (ours - theirs), seconds["fit"], seconds["barebones"]
            ),
            "anatomy_ms": {name: 1e3 * value for name, value in parts.items()},
            "seconds": {**self._epoch_end(), **start_up()},
            "peak_memory_mb": peak_memory(self.folder),
        }

    def _again(self, **changes: Any) -> None:
        """Classifier, data, trainer and run folder as ``fit`` has them, but for ``changes``."""
        trainer = self.config.fit.trainer
        for name, value in {"default_root_dir": self.folder, **changes}.items():
            trainer[name] = value
        self.instantiate_classes()
        self.lock = open_run_folder(self.trainer, self.start())

    def _fit(self, steps: int) -> float:
        # something is logged in every round
        every = min(self.config.fit.trainer.log_every_n_steps or 50, steps)
        self._again(
            max_steps=steps + WARM_UP, max_epochs=-1, limit_val_batches=0, log_every_n_steps=every
        )
        clock = _Clock()
        self.trainer.callbacks.insert(0, clock)
        self.trainer.fit(self.model, datamodule=self.datamodule)
        return clock.seconds_a_step

    def _barebones(self, steps: int) -> float:
        config = self.config.fit.trainer
        trainer = Trainer(
            barebones=True, accelerator=config.accelerator, devices=1, precision=config.precision,
            max_steps=steps + WARM_UP, max_epochs=-1, limit_val_batches=0,
        )  # fmt: skip
        self.instantiate_classes()
        clock = _Clock()
        trainer.callbacks.insert(0, clock)
        trainer.fit(_LossAlone(self.model), datamodule=self.datamodule)
        return clock.seconds_a_step

    def _epoch_end(self) -> dict[str, float]:
        """What a validation, a checkpoint and the dashboard of an epoch with pictures take."""
        self._again(
            max_steps=-1, max_epochs=1, limit_train_batches=3, limit_val_batches=1.0,
            num_sanity_val_steps=0,
        )  # fmt: skip
        validation, save, dashboard = _ValidationClock(), _Stopwatch(), _Stopwatch()
        self.trainer.callbacks.insert(0, validation)
        save.watch(checkpoints_of(self.trainer), "write")
        for part in self.dashboard:
            for hook in (name for name in dir(Callback) if name.startswith("on_")):
                dashboard.watch(part, hook)
        self.trainer.fit(self.model, datamodule=self.datamodule)
        return {
            "validation": validation.seconds,
            "checkpoint": save.seconds / save.calls,
            "dashboard, an epoch with pictures": dashboard.seconds,
        }


def _share(limit: Limit, seconds: float) -> dict[str, float]:
    """What share of the rate of a matrix product a step of so many seconds reaches."""
    flops, rate = limit.flops(), limit.matmul_flops_per_second()
    return {
        "gflop_per_step": flops / 1e9,
        "gflop_per_second": rate / 1e9,
        "share_of_fit": flops / rate / seconds,
    }


def _of_rounds(
    compare: Callable[[float, float], float], ours: list[float], theirs: list[float]
) -> dict[str, Any]:
    """Of the two in each round, which lie close together in time: the median, and all."""
    values = [compare(a, b) for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(values), "all": values}


class _Clock(Callback):
    """Seconds a step from the start of one batch to the start of another: all that lies between."""

    def __init__(self) -> None:
        self._times: list[float] = []

    @property
    def seconds_a_step(self) -> float:
        steps = self._times[WARM_UP:]
        return (steps[-1] - steps[0]) / (len(steps) - 1)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if len(self._times) in (WARM_UP, trainer.max_steps - 1) and torch.cuda.is_available():
            torch.cuda.synchronize()
        self._times.append(time.perf_counter())


class _ValidationClock(Callback):
    """Seconds of a validation, without what other callbacks do at its end."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += time.perf_counter() - self._start


class _LossAlone(LightningModule):
    """The least that Lightning can train."""

    takes_shares = True  # batches as ImageClassifier gets them

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.net = model.net
        self._model = model

    def setup(self, stage: str) -> None:
        self._model.setup(stage)

    def on_fit_start(self) -> None:
        self._model.on_fit_start()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return self._model.training_loss(self._model(images), labels)

    def configure_optimizers(self) -> Any:
        return fuse(self._model.new_optimizer(self.net))


class _Stopwatch:
    """Adds up the seconds spent in methods."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def watch(self, thing: Any, method: str) -> None:
        call = getattr(thing, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self.calls += 1

        setattr(thing, method, timed)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def bench(argv: list[str]) -> None:
    """The command: its arguments are those of ``fit``."""
    quiet_lightning(logging.ERROR)
    warnings.filterwarnings("ignore")  # of loops that are cut short on purpose
    sys.argv[1:] = ["fit", *argv]
    start(Bench)
