"""What a user's own code does wrong is said before a run has a folder; later it leaves a trace."""

from pathlib import Path

import pytest
import torch
from helpers import RUN, TINY, assert_equal, last_state, one_sentence
from program import Command

OWN = """
import threading

import torch
from stand_ins import Tiny
from torch import nn
from torch.nn import functional as F


class Raises(Tiny):
    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        raise KeyError("in its constructor")


class Forward(Tiny):
    def forward(self, images):
        return helper(images)


def helper(images):
    raise LookupError("in its forward")


class Late(Tiny):
    calls = 0

    def forward(self, images):
        Late.calls += 1
        if Late.calls > 9:
            raise LookupError("too late")
        return super().forward(images)


class Clamps(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels.clamp_(max=0))


class NotANumber(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels) * (0 * logits.sum()).log()


class Pair(Tiny):
    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Lazy(nn.Sequential):
    def __init__(self, num_classes: int):
        layers = nn.LazyConv2d(4, 5, stride=4), nn.LazyBatchNorm2d(), nn.Flatten()
        super().__init__(*layers, nn.LazyLinear(num_classes))


class Locked(Tiny):
    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.lock = threading.Lock()


def factory(num_classes, width=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, width), nn.Linear(width, num_classes))


class Sum(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, reduction="sum")


class Each(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")


class Detached(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels).detach()


class Number(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels).item()


class Named(torch.optim.SGD):
    def __init__(self, named_params, lr: float = 0.1):
        names = {name: parameter for name, parameter in named_params}
        super().__init__([names["layers.2.weight"]], lr=lr)
"""
NET, LOSS = "--model.net", "--model.loss"


@pytest.fixture(autouse=True)
def own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)


@pytest.mark.parametrize(
    ("option", "name", "part"),
    [
        (NET, "Pair", "Pair returns a tuple in training"),
        (LOSS, "Sum", "a sum over the images"),
        (LOSS, "Each", "returns 26 numbers"),
        (LOSS, "Detached", "without a gradient"),
        (LOSS, "Number", "returns a float"),
        (LOSS, "Clamps", "changes logits or labels in place"),
        (LOSS, "NotANumber", "gives numbers that are not finite"),
    ],
)
def test_refused(option: str, name: str, part: str, command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, option, f"own.{name}")
    sentence = one_sentence(ended)
    assert f"{option} {name}" in sentence
    assert part in sentence or (name == "Each" and "numbers" in sentence)
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("Raises", "in its constructor"), ("Forward", "in its forward")]
)
def test_traceback_from_the_own_file_on(
    name: str, words: str, command: Command, tmp_path: Path
) -> None:
    ended = command("fit", *TINY, NET, f"own.{name}")
    assert ended.status == 1
    sentence, head, first, *_ = ended.stderr.partition("cifar_lightning: ")[2].splitlines()
    assert words in sentence
    assert "own.py, line" in sentence
    assert head == "Traceback (most recent call last):"
    assert f'{tmp_path / "own.py"}"' in first
    assert "site-packages" not in ended.stderr
    assert not (tmp_path / "lightning_logs").exists()


def test_failure_within_the_run(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, NET, "own.Late", "--dashboard.graph", "false")
    assert ended.status == 1
    assert "LookupError: too late (own.py, line" in ended.stderr
    assert f"The last checkpoint is {RUN}/checkpoints/last.ckpt." in ended.stderr
    whole = (tmp_path / RUN / "traceback.txt").read_text()
    assert "pytorch_lightning" in whole
    assert "pytorch_lightning" not in ended.stderr
    assert last_state(tmp_path / RUN)["global_step"] >= 0


@pytest.mark.parametrize(
    "flags",
    [
        (NET, "own.Lazy"),
        (NET, "own.Locked"),
        (NET, "own.factory", f"{NET}.width", "4"),
        ("--model.optimizer", "own.Named"),
        ("--model.optimizer", "LBFGS"),
    ],
)
def test_taken(flags: tuple[str, ...], command: Command) -> None:
    ended = command("fit", *TINY, *flags, "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    ended = command("test", "--ckpt_path", "last")
    assert ended.status == 0, ended.stderr
    if "own.Locked" in flags:
        return  # which cannot be copied
    ended = command("export", "--ckpt_path", "last", "--to", "weights.safetensors")
    assert ended.status == 0, ended.stderr


def test_the_current_folder_is_on_the_path_of_the_script(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "installed" / "cifar-lightning"
    script.parent.mkdir()
    script.write_text(
        "import os, sys\nsys.path.remove(os.getcwd())\n"
        "from cifar_lightning.__main__ import main\nmain()\n"
    )
    ended = command("fit", "--model.net", "own.Lazy", "--print_config", script=str(script))
    assert ended.status == 0, ended.stderr
    assert "own.Lazy" in ended.stdout


def test_new_run_from_weights(command: Command, run: Path, tmp_path: Path) -> None:
    given = run / "checkpoints" / "last.ckpt"
    torch.save(last_state(run)["state_dict"]["net.layers.2.weight"], tmp_path / "tensor.pt")
    saved = {k.removeprefix("net."): v for k, v in last_state(run)["state_dict"].items()}
    torch.save(saved, tmp_path / "plain.pt")
    start = ("--trainer.max_steps", "1", "--model.optimizer.lr", "1e-30")
    for number, path in ((1, given), (2, tmp_path / "plain.pt")):
        ended = command("fit", *TINY, *start, "--model.weights", str(path))
        assert ended.status == 0, ended.stderr
        assert f"2 of 2 weights taken over from {path}" in ended.stderr
        new = tmp_path / f"lightning_logs/version_{number}"
        assert_equal(last_state(new)["state_dict"], last_state(run)["state_dict"])
        assert str(path) in (new / "card.json").read_text()
        assert str(path) in (new / "config.yaml").read_text()
    (tmp_path / "plain.pt").unlink()
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_steps", "2")
    assert ended.status == 0, ended.stderr
    ended = command("fit", *TINY, NET, "own.Lazy", "--model.weights", str(given))
    assert "nothing in it fits Lazy" in one_sentence(ended)
