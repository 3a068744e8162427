"""``COMMAND --help``: short, in our own words, and about every option that there is."""

import inspect
import re

import pytest
from helpers import options_of
from program import Command
from pytorch_lightning import Callback

from cifar_lightning import callbacks, data, models
from cifar_lightning.cli.choices import CHOICES
from cifar_lightning.cli.hidden import HIDDEN
from cifar_lightning.cli.options import OPTIONS

LONGEST = {"fit": 250, "validate": 80, "test": 80, "predict": 80}
# of the parser, but not of a configuration
WITHOUT_VALUE = {"config", "print_config", "help"}
# in the table before the classifier takes them
EXPECTED_SOON = {"model.loss", "model.metrics"}


def offered(command: str) -> set[str]:
    return {key.split()[0] for group in OPTIONS[command].values() for key in group}


def printed(command: Command, name: str) -> str:
    ended = command(name, "--help")
    assert ended.status == 0, ended.stderr
    return ended.stdout


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", OPTIONS)
def test_short(name: str, command: Command) -> None:
    lines = printed(command, name).splitlines()
    assert len(lines) <= LONGEST[name]
    assert max(map(len, lines)) <= 100
    assert f"python -m cifar_lightning {name}" in lines[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_offered_or_hidden(name: str, command: Command) -> None:
    there = options_of(command, name).keys()
    anywhere = set().union(*map(offered, OPTIONS))
    assert there - anywhere - HIDDEN.keys() == set(), "put them into the table, or among HIDDEN"
    assert offered(name) - there - WITHOUT_VALUE <= EXPECTED_SOON, "no such options"
    assert HIDDEN.keys() - there == set(), "no such options"
    assert HIDDEN.keys() & anywhere == set()
    shown = set(re.findall(r"^  --(\S+)", printed(command, name), re.MULTILINE))
    assert shown == offered(name) & (there | WITHOUT_VALUE)


def test_defaults_are_those_that_a_run_has(command: Command) -> None:
    text = printed(command, "fit")
    entries = {
        entry.split()[0]: in_one_line(entry)
        for entry in re.split(r"^  --", text, flags=re.MULTILINE)[1:]
    }
    simple = {
        name: value
        for name, value in options_of(command, "fit").items()
        if name in entries and isinstance(value, bool | int | float | str)
    }
    assert len(simple) > 25
    for name, value in simple.items():
        number = isinstance(value, float) and f"{value:g}"
        assert f"(default: {number or str(value).lower()})" in entries[name], name
    assert "(default: SGD lr 0.01 momentum 0.9)" in entries["model.optimizer"]
    assert "(default: AlexNet)" in entries["model.net"]
    assert "--model.optimizer.momentum X 0 for none (default: 0.9)" in entries["model.optimizer"]


def test_own_classes_are_named(command: Command) -> None:
    text = printed(command, "fit")
    own = [
        name
        for module, base in ((models, models.Network), (data, data.Source), (callbacks, Callback))
        for name in module.__all__
        if isinstance(of := getattr(module, name), type) and issubclass(of, base) and of is not base
    ]
    own.remove("CallbackList")  # how ours are put together
    assert {"AlexNet", "VGG19", "Shapes", "AveragedWeights"} < set(own)
    for name in [*own, "Dashboard", "my_nets.MyNet"]:
        assert re.search(rf"\b{re.escape(name)}\b", text), name


def test_nothing_internal_is_listed(command: Command) -> None:
    text = printed(command, "fit")
    for word in ("torch.nn.", "torchvision", "subclasses", "Union[", "plugins", "barebones"):
        assert word not in text


def test_arguments_of_the_classes_that_are_named() -> None:
    for option, choices in CHOICES.items():
        assert option in offered("fit")
        for typed, choice in choices.items():
            assert typed.rpartition(".")[2] == choice.of.__name__
            names = {key.split()[0] for key in choice.arguments}
            assert names <= inspect.signature(choice.of).parameters.keys(), typed


def test_values_that_help_names_are_taken(command: Command) -> None:
    for name, value in (
        *(("model.compile", mode) for mode in ("default", "reduce-overhead", "max-autotune")),
        *(("trainer.precision", p) for p in ("32-true", "16-mixed", "bf16-true", "64-true")),
        *(("model.initialisation", start) for start in ("default", "kaiming")),
        ("trainer.devices", "[1,3]"),
        ("trainer.deterministic", "warn"),
        ("trainer.max_time", "00:01:30:00"),
        ("trainer.limit_train_batches", "0.1"),
    ):
        ended = command("fit", f"--{name}", value, "--print_config")
        assert ended.status == 0, ended.stderr


@pytest.mark.parametrize(
    ("option", "name", "argument"),
    [
        ("model.net", "VGG19", "batch_norm"),
        ("model.net", "stand_ins.Tiny", "num_classes"),
        ("model.optimizer", "MuonSGD", "together"),
        ("trainer.callbacks", "EarlyStopping", "min_delta"),
    ],
)
def test_help_of_a_class(option: str, name: str, argument: str, command: Command) -> None:
    ended = command("fit", f"--{option}.help", name)
    assert ended.status == 0, ended.stderr
    assert f"--{option}.{argument}" in ended.stdout
