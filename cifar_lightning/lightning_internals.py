"""The one file that touches Lightning's inner state.

Each function says which behaviour of Lightning forces it. ``RELIED_ON`` lists every name that is
used, as it is found on a ``Trainer`` or in a module; a test looks each of them up, so that an
upgrade of Lightning is one file's work.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from lightning_fabric.plugins.environments import ClusterEnvironment
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks.timer import Interval, Timer
from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

RELIED_ON = (
    "trainer._accelerator_connector.cluster_environment",
    "trainer._checkpoint_connector.dump_checkpoint",
    "trainer._data_connector._datahook_selector",
    "trainer.fit_loop._can_stop_early",
    "trainer.fit_loop._combined_loader",
    "trainer.fit_loop._restarting",
    "trainer.fit_loop.epoch_loop._batches_that_stepped",
    "trainer.fit_loop.epoch_loop._build_kwargs",
    "trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor",
    "trainer.fit_loop.epoch_loop.batch_progress.current.ready",
    "trainer.fit_loop.epoch_loop.batch_progress.is_last_batch",
    "trainer.fit_loop.epoch_loop.val_loop._combined_loader",
    "trainer.fit_loop.epoch_loop.val_loop.batch_progress.state_dict",
    "trainer.fit_loop.epoch_loop.max_steps",
    "trainer.fit_loop.epoch_loop.batch_idx",
    "trainer.predict_loop._combined_loader",
    "trainer.strategy.launcher",
    "trainer.test_loop._combined_loader",
    "trainer.validate_loop._combined_loader",
    "CombinedLoader([])._iterator",
    "_Sequential([]).iterators",
    "_MaxSizeCycle([]).iterators",
    "LightningModule()._current_fx_name",
    "LightningModule()._trainer",
    "TensorBoardLogger('.')._experiment",
    "Timer()._check_time_remaining",
    "Timer()._interval",
    "LightningCLI._parse_ckpt_path",
    "LightningCLI._prepare_subcommand_parser",
    "LightningCLI._run_subcommand",
    "LightningCLI._parser",
)


def cluster_environment(trainer: Trainer) -> ClusterEnvironment:
    """What has started the processes: torchrun, SLURM, or Lightning itself.

    Lightning chooses it while the trainer is made and shows it through strategies of several
    processes alone.
    """
    environment: ClusterEnvironment = trainer._accelerator_connector.cluster_environment
    return environment


def forks_processes(trainer: Trainer) -> bool:
    """Whether Lightning would fork or spawn the other processes from this one.

    ``ddp_spawn`` and ``ddp_notebook`` are strategies of the same class as ``ddp``; the launcher
    alone tells them apart.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def is_made_by_cli() -> bool:
    """Whether ``LightningCLI`` (or ``load_from_checkpoint``) is making a module at this moment.

    Then ``save_hyperparameters`` gets plain descriptions instead of the objects that ``__init__``
    receives.
    """
    return _given_hyperparameters.get() is not None


def has_trainer(module: LightningModule) -> bool:
    """Whether a module is attached to a trainer; the property raises where there is none."""
    return module._trainer is not None


def switch_off_sigterm_broadcast(trainer: Trainer) -> None:
    """Keep Lightning from broadcasting before every step whether a SIGTERM has come.

    A GPU has to wait for it, and it hides that another process is gone.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


_STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def skip_idle_hooks(trainer: Trainer) -> None:
    """Keep Lightning from calling the hooks of a step that callbacks and module do not have.

    It spends 2 µs on each of a callback and 5 on each of the module, also where nothing is done;
    what is not callable it passes over.
    """
    owners = [(callback, Callback) for callback in trainer.callbacks]
    for part, base in (*owners, (trainer.lightning_module, LightningModule)):
        for hook in _STEP_HOOKS:
            if hook not in vars(part) and getattr(type(part), hook) is getattr(base, hook):
                setattr(part, hook, None)


def pass_batch_index(trainer: Trainer) -> None:
    """Keep Lightning from looking into the signature of ``training_step`` at every step, which
    takes 0.1 ms: whether it takes ``batch_idx`` is asked once."""
    loop = trainer.fit_loop.epoch_loop
    names = {*loop._build_kwargs(OrderedDict(), None, 0)}

    def build(kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        values = {"batch": batch, "batch_idx": batch_idx}
        kwargs.update((name, value) for name, value in values.items() if name in names)
        return kwargs

    loop._build_kwargs = build  # type: ignore[method-assign]


class Module(LightningModule):
    """A module whose bookkeeping is a plain attribute.

    Lightning notes the name of each hook that it calls, thirty times a step, and each takes the
    way of ``nn.Module`` for what may be a parameter: 0.1 ms in all.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def take_over_timers(trainer: Trainer) -> list[Timer]:
    """Keep Lightning's timers from asking process 0 after every batch whether the time is up, for
    which a GPU has to wait. Returns them, for the processes to agree in another way."""
    timers = [
        callback
        for callback in trainer.callbacks
        if isinstance(callback, Timer) and callback._interval == Interval.step
    ]
    for timer in timers:
        timer._check_time_remaining = lambda trainer: None  # type: ignore[method-assign]
    return timers


def dump_checkpoint(trainer: Trainer) -> dict[str, Any]:
    """The content of a checkpoint, without writing it.

    ``Trainer.save_checkpoint`` ends in a barrier, which process 0 would not reach when the disk
    refuses.
    """
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def wants_to_stop(trainer: Trainer) -> bool:
    """Whether Lightning would end the epoch at hand before its last batch.

    It does so for ``should_stop`` once ``min_epochs`` and ``min_steps`` are reached, and for
    ``max_steps``; and it goes on with the next epoch when resumed.
    """
    early = trainer.should_stop and trainer.fit_loop._can_stop_early
    return early or 0 <= trainer.fit_loop.epoch_loop.max_steps <= trainer.global_step


def hold_back_stop(trainer: Trainer) -> tuple[bool, int]:
    """Make Lightning forget why it would stop; returns what ``give_back_stop`` takes."""
    loop = trainer.fit_loop.epoch_loop
    held_back = trainer.should_stop, loop.max_steps
    trainer.should_stop, loop.max_steps = False, -1
    return held_back


def give_back_stop(trainer: Trainer, held_back: tuple[bool, int]) -> None:
    """Undo ``hold_back_stop``."""
    trainer.should_stop, trainer.fit_loop.epoch_loop.max_steps = held_back


def next_batch(trainer: Trainer) -> tuple[int, int]:
    """The epoch and the number of the next batch to train on, by what was trained on.

    The loader has been asked for one batch more than that.
    """
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx + 1


def is_drawn_from(trainer: Trainer, data: LightningDataModule, batches: Iterator[Any]) -> bool:
    """Whether ``batches`` is what a loop of the trainer draws from, and the batches go through the
    hooks of ``data``.

    Lightning tells a loader nothing of who iterates it: a callback may, and so may a trainer that
    was given the loader without the data module, whose hooks it then does not call.
    """
    hooks = trainer._data_connector._datahook_selector
    if hooks is None or hooks.datamodule is not data:
        return False
    fit, val = trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop
    loops = (fit, val, trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
    loaders = [loop._combined_loader for loop in loops]
    iterators = [loader._iterator for loader in loaders if loader is not None]
    return any(batches is held for i in iterators if i is not None for held in i.iterators)


def forget_batch_at_hand(trainer: Trainer) -> dict[str, Any]:
    """When a run is resumed: undo the count of the batch that was at hand when the checkpoint was
    taken, which was not trained on. Returns what ``end_restart`` takes.

    Lightning knows checkpoints from after a batch alone.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.total.ready = progress.total.completed
    progress.is_last_batch = False
    return trainer.fit_loop.epoch_loop.val_loop.batch_progress.state_dict()


def end_restart(trainer: Trainer, validation_progress: dict[str, Any]) -> None:
    """At a resumed run's first batch: put right what Lightning guesses wrongly when it resumes
    from just before a batch."""
    epoch_loop = trainer.fit_loop.epoch_loop
    # It adds one to the step that logs are written under, knowing saves in mid-batch only.
    epoch_loop._batches_that_stepped = trainer.global_step
    # It takes the whole resumed epoch for a restart: a plateau scheduler would miss its step.
    trainer.fit_loop._restarting = False
    # It counts a validation as done that is already counted.
    epoch_loop.val_loop.batch_progress.load_state_dict(validation_progress)


def open_writer(logger: TensorBoardLogger) -> Any:
    """The logger's ``SummaryWriter`` if it has one; ``experiment`` would make one."""
    return logger._experiment


def drop_writer(logger: TensorBoardLogger) -> None:
    """Have the next event open a new file. A writer whose thread has failed raises at every later
    call, and Lightning keeps it for ever."""
    logger._experiment = None
