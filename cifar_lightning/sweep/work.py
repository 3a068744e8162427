"""What a worker does: one job after the other."""

import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cifar_lightning.errors import DivergedError, FailedError, UsageError, UserError
from cifar_lightning.sweep.halving import BAD
from cifar_lightning.sweep.ledger import Claim, Ledger
from cifar_lightning.sweep.space import words
from cifar_lightning.sweep.trial import train
from cifar_lightning.sweep.workers import Worker

_HOPELESS = 2  # trials that have failed before a third, and none that has not


class Work:
    """What one worker does."""

    def __init__(self, folder: Path, ledger: Ledger, worker: Worker) -> None:
        self._folder, self._ledger, self._worker = folder, ledger, worker
        settings = ledger.settings
        assert settings is not None
        self._settings = settings

    def until_the_end(self) -> None:
        """Take jobs as long as there are any. Raises UserError: what would stop all others, too."""
        torch.set_num_threads(self._settings.threads)
        # made here: while a trial runs, sys.stdout is another
        console = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False)
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
        with Progress(
            *columns, console=console, transient=True, disable=not sys.stdout.isatty(),
            redirect_stdout=False, redirect_stderr=False,
        ) as self._bar:  # fmt: skip
            self._task = self._bar.add_task("")
            while True:
                self._show_time_left()
                claim = self._ledger.claim(self._worker)
                if claim is not None:
                    console.print(self._do(claim))
                elif self._ledger.workers():
                    self._worker.wait()
                else:
                    return

    def _do(self, claim: Claim) -> str:
        """Returns the line about it."""
        job, began = claim.job, time.monotonic()
        options = [*self._settings.options, *words(claim.params)]
        options += [f"--seed_everything={job.seed}"]
        options += [f"--run_name={self._folder.name}-{job.configuration}"]
        told = f"trial {job.configuration}" + f" seed {job.seed}" * (
            job.seed != self._settings.seeds[0]
        )
        try:
            value = train(
                options,
                self._folder,
                self._folder / claim.run if claim.run else None,
                job.epochs,
                lambda run: self._ledger.note_run(claim, run),
                lambda: self._bar.advance(self._task),
            )
        except UserError as error:
            diverged = isinstance(error.__cause__, DivergedError) or isinstance(
                error, DivergedError
            )
            # the disk and the data are everybody's affair; so is what fails again and again
            own = isinstance(error, UsageError | FailedError) and not self._is_hopeless()
            if not diverged and not own:
                error.args = (f"{told.capitalize()} {' '.join(words(claim.params))}: {error}",)
                raise
            self._ledger.tell_bad(claim, str(error))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return f"{told:<10} {'diverged' if diverged else 'failed'}: {error}"
        self._ledger.tell(claim, time.monotonic() - began, value)
        there = [
            v for j, v in self._ledger.values().items() if j.epochs == job.epochs and v is not None
        ]
        place = 1 + sum(other > value for other in there)
        epochs = f"epoch {job.epochs}/{self._settings.rungs[-1]}"
        return (
            f"{told:<10} {epochs:<12} val/acc {value:.2%}  {place}. of {len(there):<3} "
            + " ".join(f"{name.rpartition('.')[2]}={value}" for name, value in claim.params.items())
        )

    def _is_hopeless(self) -> bool:
        """Whether several trials have ended, all of them badly."""
        ended = [v for v in self._ledger.values().values() if v is not None]
        return len(ended) >= _HOPELESS and set(ended) == {BAD}

    def _show_time_left(self) -> None:
        seconds, epochs = self._ledger.seconds_of_epochs()
        total = max(self._ledger.plan.expected_epochs, epochs)
        workers = max(len(self._ledger.workers() | {self._worker.name}), 1)
        left = seconds / epochs * (total - epochs) / workers / 60 if epochs else None
        text = f"sweep {self._folder.name}" + (
            f", about {left:.0f} min left" if left is not None else ""
        )
        self._bar.update(self._task, description=text, completed=epochs, total=total)
