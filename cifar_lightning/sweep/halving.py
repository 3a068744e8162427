"""Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934; Jamieson and Talwalkar 2016,
arXiv:1502.07943), in which a trial pauses at a rung and a promoted one goes on from there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from statistics import mean
from typing import NamedTuple

FACTOR = 3
"""One in so many goes on from a rung to the next."""

BAD = -math.inf
"""The value of a trial that has diverged or failed."""


class Job(NamedTuple):
    """Train a configuration with a seed until so many epochs are done."""

    configuration: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """What is decided before a sweep begins."""

    rungs: tuple[int, ...]
    """Epochs after which a trial pauses, ascending; the last is the whole run."""
    seeds: tuple[int, ...]
    """The first is everybody's; the others are for those who have come to the end."""
    trials: int
    """How many configurations there are to be."""

    def epochs_of(self, job: Job) -> int:
        """How many epochs a job adds to those of the rung below."""
        if job.seed != self.seeds[0]:
            return job.epochs
        return job.epochs - max((rung for rung in self.rungs if rung < job.epochs), default=0)

    @property
    def expected_epochs(self) -> int:
        """How many a sweep of this plan takes, about."""
        total, configurations, before = 0, self.trials, 0
        for rung in self.rungs:
            total += configurations * (rung - before)
            configurations, before, there = max(configurations // FACTOR, 1), rung, configurations
        return total + there * (len(self.seeds) - 1) * self.rungs[-1]


def next_job(values: Mapping[Job, float | None], plan: Plan) -> Job | None:
    """What to train next; None if there is nothing, or nothing before others have ended.

    Args:
        values: held-out accuracies of all jobs that were begun, None of those that run.
        plan: of the sweep.
    """
    seed, last = plan.seeds[0], plan.rungs[-1]
    for configuration in _ranked(values, last, seed):
        for further in plan.seeds[1:]:
            if (job := Job(configuration, last, further)) not in values:
                return job
    for rung, above in reversed([*pairwise(plan.rungs)]):
        there = sum(j.epochs == rung and v is not None for j, v in values.items())
        for configuration in _ranked(values, rung, seed)[: there // FACTOR]:
            if (job := Job(configuration, above, seed)) not in values:
                return job
    begun = {job.configuration for job in values}
    if len(begun) < plan.trials:  # also if another than the last was lost
        return Job(next(n for n in count() if n not in begun), plan.rungs[0], seed)
    if None in values.values() or _ranked(values, last, seed):
        return None
    for rung, above in reversed([*pairwise(plan.rungs)]):
        paused = [c for c in _ranked(values, rung, seed) if Job(c, above, seed) not in values]
        if paused:
            return Job(paused[0], above, seed)
    return None


def _ranked(values: Mapping[Job, float | None], rung: int, seed: int) -> list[int]:
    """The configurations that are through with a rung, the best first, less the bad."""
    there = {
        job.configuration: value
        for job, value in values.items()
        if (job.epochs, job.seed) == (rung, seed) and value is not None and value != BAD
    }
    return sorted(there, key=lambda configuration: (-there[configuration], configuration))


def reached(values: Mapping[Job, float | None], seed: int) -> dict[int, tuple[int, float]]:
    """The highest rung of each configuration that has come to one, and its value there; 0 and 0 of
    one that is bad."""
    highest: dict[int, tuple[int, float]] = {}
    for job, value in values.items():
        if value is not None and job.seed == seed:
            before = highest.get(job.configuration, (0, 0.0))
            highest[job.configuration] = (
                (0, 0.0) if value == BAD else max(before, (job.epochs, value))
            )
    return highest


class Standing(NamedTuple):
    """How far a configuration has come."""

    configuration: int
    epochs: int
    value: float
    """Its held-out accuracy by then, the mean over seeds."""
    seeds: int


def standings(values: Mapping[Job, float | None]) -> list[Standing]:
    """All configurations that have come to a rung: who has come further first, then by accuracy."""
    found: dict[int, dict[Job, float]] = {}
    for job, value in values.items():
        if value is not None:
            found.setdefault(job.configuration, {})[job] = value
    table = []
    for configuration, jobs in found.items():
        epochs = max(job.epochs for job in jobs)
        highest = [value for job, value in jobs.items() if job.epochs == epochs]
        table.append(Standing(configuration, epochs, mean(highest), len(highest)))
    return sorted(table, key=lambda s: (s.value == BAD, -s.epochs, -s.value, s.configuration))
