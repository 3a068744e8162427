"""Who goes on from a rung, against the rule written out for whole sweeps."""

import random

import pytest

from cifar_lightning.sweep.halving import BAD, FACTOR, Job, Plan, next_job, standings


def play(plan: Plan, workers: int, seed: int, bad: float = 0.0) -> dict[Job, float | None]:
    """A sweep in which so many jobs run at once and end in any order; checks each that begins."""
    numbers = random.Random(seed)
    values: dict[Job, float | None] = {}
    running: list[Job] = []
    while True:
        while len(running) < workers and (job := next_job(values, plan)) is not None:
            assert job not in values
            _check(job, values, plan)
            values[job] = None
            running.append(job)
        if not running:
            return values
        ended = running.pop(numbers.randrange(len(running)))
        values[ended] = BAD if numbers.random() < bad else numbers.random()


def _check(job: Job, values: dict[Job, float | None], plan: Plan) -> None:
    """A new configuration, another seed, or a trial that is in the best third of its rung; the best
    that is paused where nothing else is left."""
    if job.seed != plan.seeds[0]:
        assert values[Job(job.configuration, plan.rungs[-1], plan.seeds[0])] is not None
        return
    if job.epochs == plan.rungs[0]:
        assert job.configuration == len({other.configuration for other in values})
        return
    below = max(rung for rung in plan.rungs if rung < job.epochs)
    there = {j: v for j, v in values.items() if j.epochs == below and v is not None}
    own = there[Job(job.configuration, below, plan.seeds[0])]
    assert own != BAD
    better = sum(value > own for value in there.values())
    last_resort = (
        len({j.configuration for j in values}) == plan.trials and None not in values.values()
    )
    assert better < len(there) // FACTOR or last_resort


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "plan",
    [
        Plan((1, 3, 9, 20), (42,), 27),
        Plan((1, 3, 5), (42, 43, 44), 20),
        Plan((1, 2), (7,), 2),
        Plan((5,), (7, 8), 4),
    ],
)
def test_every_sweep_ends_with_a_winner(plan: Plan, workers: int) -> None:
    for seed in range(20):
        values = play(plan, workers, seed)
        assert len({job.configuration for job in values}) == plan.trials
        winner = standings(values)[0]
        assert (winner.epochs, winner.seeds) == (plan.rungs[-1], len(plan.seeds))


def test_one_worker_stops_two_thirds_at_each_rung() -> None:
    values = play(Plan((1, 3, 9), (0,), 27), 1, 3)
    at = [sum(job.epochs == rung for job in values) for rung in (1, 3, 9)]
    assert at[0] == 27
    assert 9 <= at[1] < 14  # asynchronous: some were in the best third for a while
    assert 3 <= at[2] < 6


def test_bad_trials_end_nothing() -> None:
    plan = Plan((1, 3, 9), (0, 1), 12)
    for seed in range(20):
        values = play(plan, 2, seed, bad=0.5)
        assert all(  # none goes on
            not any(other.configuration == job.configuration and other.epochs > job.epochs
                    for other in values)
            for job, value in values.items() if value == BAD
        )  # fmt: skip
    assert standings(play(plan, 1, 0, bad=1.0))[0].value == BAD


def test_a_configuration_that_was_lost_begins_anew() -> None:
    values: dict[Job, float | None] = {Job(0, 1, 42): 0.5, Job(2, 1, 42): None}
    assert next_job(values, Plan((1, 3), (42,), 3)) == Job(1, 1, 42)


def test_expected_epochs() -> None:
    assert Plan((1, 3, 9), (0,), 27).expected_epochs == 27 + 9 * 2 + 3 * 6
    assert Plan((5,), (0, 1), 4).expected_epochs == 4 * 5 * 2
