"""What a sweep has decided, begun and found: an Optuna study, one of its trials for each job."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from cifar_lightning.errors import UserError
from cifar_lightning.sweep.halving import BAD, Job, Plan, next_job, reached
from cifar_lightning.sweep.settings import Settings
from cifar_lightning.sweep.space import Params, sample
from cifar_lightning.sweep.workers import Worker

_FREED = 15  # seconds after which the lock of a worker that was killed within it is taken away


class Claim(NamedTuple):
    """A job that is this worker's alone."""

    job: Job
    params: Params
    run: str | None
    """The name of the folder of its run; None if it has none yet."""
    trial: optuna.Trial


class Ledger:
    """The study of one sweep.

    Args:
        folder: of the sweep.
        url: of a database that Optuna knows; None for a file in the folder.

    Raises:
        UserError: the storage cannot be opened.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lock = _lock(str(folder / "deciding"))
        journal = str(folder / "journal.log")
        try:
            if url is None:
                _heal(Path(journal))
            self._study = optuna.create_study(
                storage=url or JournalStorage(JournalFileBackend(journal, _lock(journal))),
                study_name=folder.name,
                direction="maximize",
                sampler=optuna.samplers.RandomSampler(0),  # is never asked
                load_if_exists=True,
            )
        except Exception as error:
            what = f"--storage {url}" if url else f"{journal}"
            said = " ".join(str(error).split())[:300]
            raise UserError(f"{what} cannot be used ({said}).") from error

    @property
    def settings(self) -> Settings | None:
        """None of a sweep that has not been begun."""
        plain = self._study.user_attrs.get("settings")
        return plain and Settings.restored(plain)

    def begin(self, settings: Settings) -> Settings:
        """Keep the settings, unless another worker was first. Returns those that count."""
        with self._deciding():
            if self.settings is None:
                self._study.set_user_attr("settings", settings.stored())
            found = self.settings
        assert found is not None
        return found

    @property
    def trials(self) -> int:
        """How many configurations there are to be."""
        return int(self._study.user_attrs.get("trials", 0))

    @trials.setter
    def trials(self, number: int) -> None:
        self._study.set_user_attr("trials", number)

    @property
    def plan(self) -> Plan:
        settings = self.settings
        assert settings is not None
        return Plan(settings.rungs, settings.seeds, self.trials)

    def values(self) -> dict[Job, float | None]:
        """The held-out accuracies of all jobs, None of those that run."""
        found: dict[Job, float | None] = {}
        for trial in self._jobs():
            if trial.state == TrialState.COMPLETE:
                found[_job(trial)] = trial.value
            else:
                found[_job(trial)] = BAD if "reason" in trial.user_attrs else None
        return found

    @property
    def last_reason(self) -> str:
        """Why the last of the bad jobs is bad; empty if none is."""
        reasons = [trial.user_attrs.get("reason", "") for trial in self._jobs()]
        return next((reason for reason in reversed(reasons) if reason), "")

    def params(self) -> dict[int, Params]:
        """The configurations, by number, also of a job that a worker lost as it was about to give
        it to itself."""
        trials = self._study.get_trials(deepcopy=False)
        return {_job(trial).configuration: _params(trial) for trial in trials}

    def runs(self) -> dict[tuple[int, int], str]:
        """The names of runs' folders, by configuration and seed."""
        return {
            (_job(trial).configuration, _job(trial).seed): trial.user_attrs["run"]
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("run")
        }

    def seconds_of_epochs(self) -> tuple[float, int]:
        """How long the jobs that are done took in all, and their epochs."""
        done = [t for t in self._jobs() if t.state == TrialState.COMPLETE]
        seconds = sum(trial.user_attrs["seconds"] for trial in done)
        return seconds, sum(self.plan.epochs_of(_job(trial)) for trial in done)

    def workers(self) -> set[str]:
        """Those who have a job."""
        running = (t for t in self._jobs() if t.state == TrialState.RUNNING)
        return {trial.user_attrs.get("worker", "") for trial in running}

    def claim(self, worker: Worker) -> Claim | None:
        """Take the next job; None if there is none now. That of a worker that lives no more comes
        first, and is begun by another as it was."""
        with self._deciding():
            for trial in self._study.get_trials(deepcopy=False):
                if trial.state == TrialState.WAITING:  # who was about to take it has been killed
                    return self._take(worker)
                of = trial.user_attrs.get("worker", "")
                if trial.state == TrialState.RUNNING and not worker.knows_alive(of):
                    self._study.tell(trial.number, state=TrialState.FAIL)
                    return self._give(_job(trial), _params(trial), worker)
            job = next_job(self.values(), self.plan)
            if job is None:
                return None
            known = self.params().get(job.configuration)
            return self._give(job, known or self._sample(), worker)

    def note_run(self, claim: Claim, run: Path) -> None:
        """Where the run of a job is."""
        claim.trial.set_user_attr("run", run.name)

    def tell(self, claim: Claim, seconds: float, value: float) -> None:
        """A job is done."""
        claim.trial.set_user_attr("seconds", seconds)
        self._study.tell(claim.trial, value)

    def tell_bad(self, claim: Claim, reason: str) -> None:
        """A job has diverged or failed, and would again."""
        claim.trial.set_user_attr("reason", reason)
        self._study.tell(claim.trial, state=TrialState.FAIL)

    def _give(self, job: Job, params: Params, worker: Worker) -> Claim:
        run = self.runs().get((job.configuration, job.seed))
        attributes = {**job._asdict(), "run": run, "params": params}
        self._study.enqueue_trial(params, user_attrs=attributes)
        return self._take(worker)

    def _take(self, worker: Worker) -> Claim:
        settings = self.settings
        assert settings is not None
        trial = self._study.ask(settings.space)
        trial.set_user_attr("worker", worker.name)
        job = Job(*(trial.user_attrs[name] for name in Job._fields))
        return Claim(job, trial.user_attrs["params"], trial.user_attrs["run"], trial)

    def _sample(self) -> Params:
        settings = self.settings
        assert settings is not None
        there = reached(self.values(), settings.seeds[0])
        before = [(params, there.get(number)) for number, params in sorted(self.params().items())]
        return sample(settings.space, settings.sampler, settings.seeds[0], before)

    def _jobs(self) -> list[FrozenTrial]:
        """The trials of jobs, the last of each: earlier ones were left by workers that died."""
        trials = self._study.get_trials(deepcopy=False)
        kept = {_job(trial): trial for trial in trials if not _is_left(trial)}
        return sorted(kept.values(), key=lambda trial: trial.number)

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """One worker at a time."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


def _job(trial: FrozenTrial) -> Job:
    return Job(*(trial.user_attrs[name] for name in Job._fields))


def _params(trial: FrozenTrial) -> Params:
    # Optuna writes its own after a trial has begun, one by one: a worker may be killed between them
    params: Params = trial.user_attrs["params"]
    return params


def _is_left(trial: FrozenTrial) -> bool:
    failed = trial.state == TrialState.FAIL and "reason" not in trial.user_attrs
    return failed or trial.state == TrialState.WAITING


def _lock(file: str) -> JournalFileOpenLock:
    # a link, by which Optuna locks unless it is told, is never taken away if its worker was killed
    # and the path is relative: it leads nowhere, and has no time
    return JournalFileOpenLock(file, _FREED)


def _heal(journal: Path) -> None:
    """Take away half a line, left by a disk that was full: nobody could read on after it."""
    if not journal.exists():
        return
    lock = _lock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            journal.write_bytes(content[: content.rfind(b"\n") + 1])
    finally:
        lock.release()
