"""The space of a sweep: options of ``fit`` and the values that each may take."""

import json
import math
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Literal

import numpy as np
import yaml
from optuna import create_study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from cifar_lightning.cli.config_file import check_config
from cifar_lightning.cli.repeats import short
from cifar_lightning.errors import UsageError, local_path
from cifar_lightning.runs.config import NOT_THE_EXPERIMENT, is_in

Sampler = Literal["tpe", "random"]
Params = dict[str, Any]
"""A configuration: values by option of ``fit``."""

_SAME_FOR_ALL = {
    "seed_everything": "--seeds says how many seeds each configuration has",
    "trainer.max_epochs": "all trials train as long, and --rungs says where they pause",
    "data.source": "accuracies on other images cannot be compared",
    "data.val_size": "accuracies on other held-out images cannot be compared",
}
_NUMBERS = {"low", "high", "log", "step"}
_GUIDED = 20  # attempts of TPE at a configuration that was not tried yet


def read_space(given: str) -> dict[str, BaseDistribution]:
    """The distributions of a YAML file, by option.

    Raises:
        UsageError: it is no space; says in which line or option.
    """
    path = local_path(given)
    if not path.is_file():
        raise UsageError(f"{given}: there is no such file and no sweep of that name.")
    check_config(str(path))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{given} cannot be read ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{given} holds no space: write option: {{low: 0.01, high: 0.1}} lines.")
    space: dict[str, BaseDistribution] = {}
    for option, values in _leaves(content):
        name = short(option)
        reasons = [why for fixed, why in _SAME_FOR_ALL.items() if is_in(name, (fixed,))]
        if is_in(name, NOT_THE_EXPERIMENT):
            reasons.append("it does not change what is trained")
        if reasons:
            raise UsageError(f"{given}: {name} cannot be searched over: {reasons[0]}.")
        if name in space:
            raise UsageError(f"{given}: {name} stands twice.")
        try:
            space[name] = _distribution(values)
        except ValueError as error:
            raise UsageError(f"{given}: {name}: {error}.") from error
    return space


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Options may be written with dots or nested, as in a config file."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and not _NUMBERS & value.keys():
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _distribution(values: Any) -> BaseDistribution:
    if isinstance(values, list) and values:
        # Optuna's choices are plain; a list is written as the command line takes it
        plain = [json.dumps(v) if isinstance(v, list | dict) else v for v in values]
        if len({repr(choice) for choice in plain}) < len(plain):
            raise ValueError("a value stands twice")
        return CategoricalDistribution(plain)
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= _NUMBERS:
        raise ValueError("give a list of values, or {low, high} with log: true or a step")
    numbers = {
        name: _number(name, values[name]) for name in ("low", "high", "step") if name in values
    }
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log {log} must be true or false")
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    if step is not None and (log or step <= 0):
        raise ValueError("a step must be above 0, and does not go with log")
    if log and low <= 0:
        raise ValueError(f"low {low} must be above 0 with log")
    if all(isinstance(number, int) for number in numbers.values()):
        return IntDistribution(int(low), int(high), log, int(step or 1))
    # the highest value that is reached, of which Optuna would warn
    high = high if step is None else low + math.floor((high - low) / step + 1e-9) * step
    return FloatDistribution(low, high, log, step)


def _number(name: str, value: Any) -> int | float:
    try:
        # YAML takes 1e-3 for a text
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{name} {value} must be a number")
    return number


def corners(space: Mapping[str, BaseDistribution]) -> list[Params]:
    """Few configurations in which each end of a range and each value of a list occurs."""
    values = {
        name: of.choices if isinstance(of, CategoricalDistribution) else (of.low, of.high)
        for name, of in space.items()
        if isinstance(of, CategoricalDistribution | FloatDistribution | IntDistribution)
    }
    most = max(len(of) for of in values.values())
    return [{name: of[i % len(of)] for name, of in values.items()} for i in range(most)]


def size(space: Mapping[str, BaseDistribution]) -> float:
    """How many configurations there are; infinity where a range has no step."""
    total = 1.0
    for of in space.values():
        if isinstance(of, CategoricalDistribution):
            total *= len(of.choices)
        elif isinstance(of, IntDistribution | FloatDistribution):
            total *= math.inf if of.step is None else round((of.high - of.low) / of.step) + 1
    return total


def as_written(of: BaseDistribution) -> Any:
    """A distribution as a space has it."""
    if isinstance(of, CategoricalDistribution):
        return list(of.choices)
    assert isinstance(of, FloatDistribution | IntDistribution)
    written = {"low": of.low, "high": of.high, "log": of.log, "step": of.step}
    return {name: value for name, value in written.items() if value not in (None, False)}


def words(params: Params) -> list[str]:
    """A configuration as the command line has it."""
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in params.items()
    ]


def sample(
    space: dict[str, BaseDistribution],
    kind: Sampler,
    seed: int,
    before: list[tuple[Params, tuple[int, float] | None]],
) -> Params:
    """The next configuration, unlike all before.

    It is a function of its arguments: the sampler is made for it and seeded by the sweep's seed and
    the configuration's number, as no storage keeps a sampler's state.

    Args:
        space: what to draw from; has more configurations than were seen.
        kind: Optuna's TPESampler, which learns from those before, or its RandomSampler.
        seed: of the sweep.
        before: each configuration so far, in their order, with its highest rung and its value
            there; None if it has come to none. To TPE they are trials that were pruned: who has
            come further is better.
    """
    seen = [
        create_trial(
            state=TrialState.RUNNING if reached is None else TrialState.PRUNED,
            params=params,
            distributions=space,
            intermediate_values={} if reached is None else dict([reached]),
        )
        for params, reached in before
    ]
    for attempt in count():
        state = np.random.SeedSequence([seed, len(seen), attempt]).generate_state(1)
        sampler: BaseSampler = RandomSampler(int(state[0]))
        if kind == "tpe" and attempt < _GUIDED:
            sampler = TPESampler(seed=int(state[0]))
        study = create_study(direction="maximize", sampler=sampler)
        study.add_trials(seen)
        params = {name: _short(value) for name, value in study.ask(space).params.items()}
        params = {
            name: min(max(value, of.low), of.high) if isinstance(of, FloatDistribution) else value
            for (name, value), of in zip(params.items(), space.values(), strict=True)
        }
        if all(params != trial.params for trial in seen):
            return params
    raise AssertionError


def _short(value: Any) -> Any:
    """A number that can be typed again."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
