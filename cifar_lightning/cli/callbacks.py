"""Which callbacks a run can have: those with which it is exact when it is resumed.

The others are refused before the run begins, with what to use instead. A test goes through all
callbacks of Lightning and torch: those that are not refused are tried there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    GradientAccumulationScheduler,
    ProgressBar,
    Timer,
)

from cifar_lightning.callbacks import AveragedWeights
from cifar_lightning.errors import UsageError

REFUSED = {
    "BackboneFinetuning": "it looks for a module's attribute backbone, which ImageClassifier has "
    "not; derive a callback of your own from BaseFinetuning",
    "BatchSizeFinder": "the batch is a part of the experiment; choose it by --data.batch_size",
    "Checkpoint": "checkpoints are taken where a resumed run loses nothing, by "
    "--checkpoints.every_seconds and --checkpoints.monitor; leave it out",
    "LearningRateFinder": "it sets an attribute of the module, and the rate is one of the "
    "optimizer; try values of --model.optimizer.lr, and see them side by side by compare",
    "ModelPruning": "its masks are in no checkpoint, so that a run could not go on with it; prune "
    "a finished run's network by torch.nn.utils.prune",
    "PostTrainingDataSparsity": "what it makes is in no checkpoint; use torch.ao.pruning on a "
    "finished run's network",
    "SaveConfigCallback": "a run's configuration is in its config.yaml anyway; leave it out",
    "ServableModuleValidator": "ImageClassifier is no ServableModule; export makes a file to serve",
    "SpikeDetection": "Lightning cannot load what it saves, so that the run could not go on; a "
    "loss that is no longer finite stops a run without it",
    "StochasticWeightAveraging": "a run that is interrupted within an epoch could not go on with "
    "it; use AveragedWeights",
    "TrainingAwareDataSparsity": "what it makes is in no checkpoint; use torch.ao.pruning on a "
    "finished run's network",
    "WeightAveraging": "the weights that are trained are lost when training ends, so that it could "
    "not go on; use AveragedWeights",
}
"""By the name of the class of Lightning or torch, for those derived from it, too: why not, and what
to do instead."""

_ABSTRACT = {"BaseFinetuning", "BasePredictionWriter", "ProgressBar"}
_ONE_AT_MOST = (AveragedWeights, GradientAccumulationScheduler, ProgressBar)


def check_kinds(kinds: Iterable[type]) -> None:
    """Whether there can be callbacks of these classes. Raises UsageError."""
    for kind in kinds:
        if kind.__name__ in _ABSTRACT and _of_others(kind):
            raise _refusal(kind, "it does nothing by itself; derive one of your own from it")
        for base in kind.__mro__:
            if base.__name__ in REFUSED and _of_others(base):
                of = "" if base is kind else f" (a {base.__name__})"
                raise _refusal(kind, REFUSED[base.__name__], of)


def check_callbacks(
    given: Sequence[Callback],
    ours: Sequence[Callback],
    trainer: Mapping[str, Any],
    spans_run: bool = False,
) -> None:
    """Whether callbacks of such classes go with each other and with the trainer's options.

    Args:
        given: those that were asked for.
        ours: those at work anyway.
        trainer: its options.
        spans_run: whether the learning-rate schedule needs to know how many steps the run has.

    Raises:
        UsageError: they do not.
    """
    for callback in given:
        if type(callback) in map(type, ours):
            raise _refusal(type(callback), "it is at work without being named; leave it out")
        for needs, reason in _needs(callback, trainer, spans_run):
            if needs:
                raise _refusal(type(callback), reason)
    keys = Counter(c.state_key for c in (*ours, *given) if _has_state(c))
    for callback in given:
        kind = next((kind for kind in _ONE_AT_MOST if isinstance(callback, kind)), None)
        if kind is not None and sum(isinstance(c, kind) for c in given) > 1:
            raise _refusal(type(callback), "there can be one alone; leave the others out")
        if _has_state(callback) and keys[callback.state_key] > 1:
            raise _refusal(
                type(callback),
                "in a checkpoint it cannot be told from another one; leave one of them out, or "
                "give your own class a state_key for each",
            )


def _needs(
    callback: Callback, trainer: Mapping[str, Any], spans_run: bool
) -> list[tuple[bool, str]]:
    """What a callback may be short of, and what to say then."""
    if isinstance(callback, GradientAccumulationScheduler):
        batches = trainer["accumulate_grad_batches"]
        return [
            (batches != 1, f"--trainer.accumulate_grad_batches {batches} says otherwise; leave one "
             "of them out"),
            (spans_run, "the learning-rate schedule spans the whole run, whose number of steps it "
             "changes; give the schedule's length as a number"),
        ]  # fmt: skip
    if isinstance(callback, Timer):
        limit = "--trainer.max_time sets a limit, too; leave one of them out"
        return [(trainer["max_time"] is not None, limit)]
    if isinstance(callback, DeviceStatsMonitor):
        missing = "it needs a package that is not installed: pip install psutil"
        return [(find_spec("psutil") is None, missing)]
    if isinstance(callback, ProgressBar):
        hidden = "--trainer.enable_progress_bar false says otherwise; leave one of them out"
        return [(trainer["enable_progress_bar"] is False, hidden)]
    return []


def has_bar(callbacks: Sequence[Callback]) -> bool:
    """Whether there is a progress bar among callbacks, which takes the place of ours."""
    return any(isinstance(callback, ProgressBar) for callback in callbacks)


def _refusal(kind: type, reason: str, of: str = "") -> UsageError:
    return UsageError(f"--trainer.callbacks {kind.__name__}{of}: {reason}.")


def _has_state(callback: Callback) -> bool:
    return type(callback).state_dict is not Callback.state_dict


def _of_others(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("pytorch_lightning", "torch")


class Patience(Callback):
    """Lets the patience that was asked for win over the one that EarlyStopping finds in a
    checkpoint.

    Args:
        callbacks: before anything is restored.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._asked = [(c, c.patience) for c in callbacks if isinstance(c, EarlyStopping)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback, patience in self._asked:
            callback.patience = patience
