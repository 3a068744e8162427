"""The best epoch of a run so far, by a monitored metric."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from cifar_lightning.errors import UserError

Monitor = Literal["val/acc", "val/loss"]


class Best(NamedTuple):
    """An epoch that was better than all before."""

    score: float
    epoch: int
    name: str
    """Of its checkpoint's file."""


class BestSoFar:
    """Keeps the best epoch, and which file becomes superfluous when a better one is saved.

    Args:
        monitor: the highest ``val/acc`` or the lowest ``val/loss`` is the best.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.epoch: Best | None = None
        self.unsaved = False
        """Whether the best epoch has no checkpoint yet."""
        self.superseded: str | None = None
        """The file of an earlier best, to be removed once no checkpoint counts on it."""
        self._before: Best | None = None

    def better_of(self, score: Tensor | float | None) -> float | None:
        """The best score so far, or this one if it is better."""
        scores = [float(s) for s in (self.epoch and self.epoch.score, score) if s is not None]
        choose = max if self.monitor == "val/acc" else min
        return choose(scores) if scores else None

    def update(self, score: float, epoch: int) -> None:
        """Take note of an epoch's score."""
        if self.epoch is not None and self.epoch.score == self.better_of(score):
            return
        metric = self.monitor.replace("/", "_")
        self._before, self.unsaved = self.epoch, True
        self.epoch = Best(score, epoch, f"epoch={epoch}-{metric}={score:.4f}.ckpt")

    def begin_save(self) -> None:
        """The best epoch is about to be saved, and takes the place of the one before."""
        self.unsaved = False
        self.superseded = self._before and self._before.name

    def save_failed(self) -> None:
        """What could not be kept is not the best: a later epoch may still be kept."""
        self.epoch, self.superseded = self._before, None

    def state_dict(self) -> dict[str, Any]:
        score, epoch, name = self.epoch or (None, None, None)
        return {
            "best_score": score, "best_epoch": epoch, "best_name": name,
            "superseded": self.superseded, "monitor": self.monitor,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` has given. Raises UserError: it is by another metric."""
        monitor = state.get("monitor", self.monitor)  # not in older checkpoints
        if monitor != self.monitor:
            raise UserError(
                f"The best epoch of this run was kept by {monitor}, not {self.monitor}: go on with "
                "that, or start a new run."
            )
        if state["best_score"] is not None:
            self.epoch = Best(state["best_score"], state["best_epoch"], state["best_name"])
        self.superseded = state["superseded"]
