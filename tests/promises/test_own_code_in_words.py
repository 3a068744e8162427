"""Promise: what is wrong with one's own code, or in a YAML file, is said in one sentence that names
the option or the file, and nothing is left behind."""

from pathlib import Path

import pytest
from helpers import RUN, TINY, one_sentence, write_images
from program import Command

OWN = """
import sys

import torch
from pytorch_lightning import Callback
from stand_ins import Tiny
from torch import nn
from torch.nn import functional as F
from torchmetrics import Metric

from cifar_lightning.data import Source


class Outer:
    class Inner(Tiny):
        pass


class Deep(Tiny):
    def __init__(self, num_classes, depth, width=3):
        super().__init__(num_classes)


class Classes(Tiny):
    def __init__(self, classes):
        super().__init__(classes)


class Text(Tiny):
    def __init__(self, num_classes: str):
        super().__init__(int(num_classes))


class Bare(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images):
        return images.flatten(1)[:, : self.num_classes]


class InAList(Bare):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.layers = [nn.Linear(3072, num_classes)]

    def forward(self, images):
        return self.layers[0](images.flatten(1))


class Integers(Tiny):
    def forward(self, images):
        return super().forward(images).long()


class Softmax(Tiny):
    def forward(self, images):
        return super().forward(images).softmax(dim=1)


class Ends(Tiny):
    def forward(self, images):
        sys.exit(3)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits, labels):
        return F.cross_entropy(self.scale * logits, labels)


class Gamma(nn.Module):
    def __init__(self, gamma):
        super().__init__()


class Constant(nn.Module):
    def forward(self, logits, labels):
        return torch.tensor(1.0, requires_grad=True)


class Complex(nn.Module):
    def forward(self, logits, labels):
        return logits.mean().to(torch.complex64)


def nothing(num_classes):
    pass


def number(num_classes):
    return 3


def loss(logits, labels):
    return F.cross_entropy(logits, labels)


def no_loss():
    pass


class Share(Metric):
    def __init__(self, num_classes, k=2):
        super().__init__()
        self.k = k
        self.add_state("sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, probabilities, labels):
        self.sum += probabilities.topk(self.k).values.sum()

    def compute(self):
        return self.sum


class Word(Share):
    def compute(self):
        return "good"


class Nothing(Share):
    def compute(self):
        return None


class Plain(Share):
    def compute(self):
        return 0.5


class Updates(Share):
    def update(self, probabilities):
        pass


class acc(Share):
    pass


class Alone(Metric):
    def __init__(self):
        super().__init__()


class Given(torch.optim.SGD):
    def __init__(self, lr=0.1):
        super().__init__([], lr)


class Half(Source):
    pass


class Waits(Callback):
    def __init__(self, patience: int):
        pass


made = Tiny(10)
"""
YAML = {
    "key": "model: {optimzer: {lr: 0.1}}\n",
    "top": "modle: {net: AlexNet}\n",
    "type": "model: {optimizer: {class_path: SGD, init_args: {lr: fast}}}\n",
    "class": "model: {optimizer: {class_path: SDG}}\n",
    "argument": "model: {optimizer: {class_path: SGD, init_args: {momentun: 0.3}}}\n",
    "beside": "model: {net: {class_path: own.Deep, width: 3}}\n",
    "before": "model: {net: {init_args: {widht: 3, depth: 1}, class_path: own.Deep}}\n",
    "missing": "model: {lr_scheduler: CosineAnnealingLR}\n",
    "choice": "trainer: {precision: 7}\n",
    "range": "trainer: {max_epochs: 0}\n",
    "made": "data: {val_size: 2.5}\n",
    "trial": "model: {optimizer: {class_path: SGD, init_args: {lr: -1}}}\n",
    "group": "model: AlexNet\n",
    "list": "trainer: {callbacks: [{class_path: own.Waits, init_args: {patience: x}}]}\n",
    "of_list": "model: {metrics: [{class_path: own.Share}, {class_path: own.Nope}]}\n",
    "kind": "trainer: {callbacks: [own.Deep]}\n",
    "time": "trainer: {max_time: 10}\n",
    "tag": "model: !!python/name:os.system\n",
    "tab": "model:\n\tnet: AlexNet\n",
    "included": "config: type.yaml\n",
    "trainer": "max_epochs: x\n",
}

FIT, NET = ("fit", *TINY), "--model.net"
LOSS, METRICS, SCHEDULE = "--model.loss", "--model.metrics", "--model.lr_scheduler"
OPTIMIZER, CALLBACKS = "--model.optimizer", "--trainer.callbacks"

# flags after those of TINY, what the sentence must hold
WRONG: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    # whose an argument is, and which is missing
    ((NET, "own.Deep"), ("--model.net own.Deep needs depth: give --model.net.depth",)),
    ((NET, "own.Deep", f"{NET}.widht", "3"),
     ("--model.net.widht 3: Deep has no widht, did you mean --model.net.width?",)),
    ((NET, "own.Classes"), ("--model.net Classes", "as its argument num_classes")),
    ((NET, "own.Text"), ("--model.net own.Text does not take its num_classes as a whole number",)),
    ((NET, "torch.nn.Linear"), ("--model.net Linear", "as its argument num_classes")),
    ((LOSS, "own.Gamma"), ("--model.loss own.Gamma needs gamma",)),
    ((f"{LOSS}.gamma", "3"), ("--model.loss.gamma 3", "name it first")),
    ((SCHEDULE, "CosineAnnealingLR"), ("CosineAnnealingLR needs T_max",)),
    ((f"{SCHEDULE}.T_max", "3"), ("--model.lr_scheduler.T_max 3", "name it first")),
    ((OPTIMIZER, "Adam", f"{OPTIMIZER}.momentum", "0.9"),
     ("--model.optimizer.momentum 0.9: Adam has no momentum; it has lr, betas",)),
    ((OPTIMIZER, "own.Given"), ("must take the parameters as its first argument",)),
    ((CALLBACKS, "EarlyStopping"), ("--trainer.callbacks EarlyStopping needs monitor",)),
    ((CALLBACKS, "EarlyStopping", f"{CALLBACKS}.montor", "x"), ("--trainer.callbacks.monitor?",)),
    ((CALLBACKS, "EarlyStopping", f"{CALLBACKS}.monitor", "val/acc", f"{CALLBACKS}.mode", "up"),
     ("--trainer.callbacks EarlyStopping: ", "up")),
    # what is no class for an option
    ((NET, "math.sqrt"), ("--model.net math.sqrt: this is no nn.Module",)),
    ((NET, "own.Outer"), ("--model.net own.Outer: this is no nn.Module",)),
    ((NET, "own.Outer.Innner"), ("no Innner in own.Outer",)),
    ((NET, "own.made"), ("--model.net own.made is an object: name its class",)),
    ((NET, "own.nothing"), ("--model.net own.nothing returns nothing (None)",)),
    ((NET, "own.number"), ("--model.net own.number returns a int",)),
    ((NET, "./own.py"), ("write an import path",)),
    ((NET, "own.py"), ("as in own.MyClass",)),
    ((LOSS, "torch.nn.functional.cross_entropy"), ("if it is the loss itself", "nn.Module")),
    ((LOSS, "own.loss"), ("--model.loss own.loss", "needs logits and labels", "nn.Module")),
    ((LOSS, "own.no_loss"), ("--model.loss own.no_loss returns nothing (None)",)),
    ((OPTIMIZER, "Adamw"), ("did you mean AdamW?",)),
    (("--data.source", "own.Half"), ("it lacks class_names, load",)),
    # what network and loss must give
    ((NET, "own.Bare"), ("--model.net Bare has no weights",)),
    ((NET, "own.Bare", LOSS, "own.Scaled"), ("--model.net Bare has no weights",)),
    ((NET, "own.InAList"), ("--model.net InAList has no weights", "nn.ModuleList")),
    ((NET, "own.Integers"), ("--model.net Integers gives int64",)),
    ((LOSS, "own.Constant"), ("--model.loss Constant does not depend on the network",)),
    ((LOSS, "own.Complex"), ("--model.loss Complex returns complex64",)),
    # metrics
    ((METRICS, "torchmetrics.Accuracy"), ("Accuracy must be made from the number of classes",)),
    ((METRICS, "own.Alone"), ("--model.metrics Alone must be made from the number of classes",)),
    ((METRICS, "own.Word"), ("--model.metrics Word gives a str",)),
    ((METRICS, "own.Nothing"), ("--model.metrics Nothing gives nothing (None)",)),
    ((METRICS, "own.Updates"), ("--model.metrics Updates: ", "2 positional arguments")),
    ((METRICS, "own.acc"), ("--model.metrics acc: that name is taken",)),
    ((METRICS, "own.Share", METRICS, "own.Share"), ("Share is given twice",)),
    # types in words
    (("--trainer.precision", "8"), ("--trainer.precision 8: must be 64, 32, 16", "or auto")),
    (("--trainer.deterministic", "maybe"), ("maybe: must be true, false or warn",)),
    (("--checkpoints.monitor", "train/loss"), ("must be val/acc or val/loss",)),
    (("--data.mean", "0.5"), ("--data.mean 0.5: must be a list",)),
    (("--seed_everything", "abc"), ("--seed_everything abc: must be a whole number from 0",)),
    (("--trainer.max_time", "10"), ("--trainer.max_time 10 must be DD:HH:MM:SS",)),
    (("--trainer.max_time", "{weks: 1}"), ("--trainer.max_time {weks: 1} must be DD:HH:MM:SS",)),
    (("--trainer.accelerator", "tpu"), ("--trainer.accelerator tpu: ", "torch_xla")),
    (("--trainer.strategy", "dpp"), ("--trainer.strategy dpp: ",)),
    (("--trainer.num_nodes", "0"), ("--trainer.num_nodes 0: ",)),
    (("--dashboard", "3"), ("--dashboard 3: give its options one by one",)),
    # files
    (("--config", "key.yaml"),
     ("key.yaml: there is no option model.optimzer.lr, did you mean model.optimizer.lr?",)),
    (("--config", "top.yaml"), ("top.yaml: there is no option modle.net",)),
    (("--config", "type.yaml"), ("type.yaml: model.optimizer.lr fast: must be a number",)),
    (("--config", "class.yaml"), ("class.yaml: model.optimizer SDG", "did you mean SGD?")),
    (("--config", "argument.yaml"),
     ("argument.yaml: model.optimizer.momentun 0.3: SGD has", "mean model.optimizer.momentum?")),
    (("--config", "beside.yaml"), ("beside.yaml: model.net.width 3", "below init_args")),
    (("--config", "before.yaml"), ("before.yaml: model.net.widht 3: Deep has no widht",)),
    (("--config", "missing.yaml"), ("missing.yaml: model.lr_scheduler Cos", "needs T_max")),
    (("--config", "choice.yaml"), ("choice.yaml: trainer.precision 7: must be",)),
    (("--config", "range.yaml"), ("range.yaml: trainer.max_epochs 0 must be at least 1",)),
    (("--config", "made.yaml"), ("made.yaml: data.val_size 2.5 must be",)),
    (("--config", "trial.yaml"), ("trial.yaml: model.optimizer SGD (lr -1",)),
    (("--config", "group.yaml"), ("group.yaml: model AlexNet: give its options one by one",)),
    (("--config", "list.yaml"), ("list.yaml: trainer.callbacks.patience x: must be a whole",)),
    (("--config", "of_list.yaml"), ("of_list.yaml: model.metrics own.Nope: there is no Nope",)),
    (("--config", "kind.yaml"), ("kind.yaml: trainer.callbacks own.Deep: this is no Callback",)),
    (("--config", "time.yaml"), ("time.yaml: trainer.max_time 10 must be DD:HH:MM:SS",)),
    (("--config", "tag.yaml"), ("--config tag.yaml, line 1",)),
    (("--config", "tab.yaml"), ("--config tab.yaml, line 2",)),
    (("--config", "included.yaml"), ("type.yaml: model.optimizer.lr fast",)),
    (("--trainer", "trainer.yaml"), ("trainer.yaml: trainer.max_epochs x",)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    for name, content in YAML.items():
        (tmp_path / f"{name}.yaml").write_text(content)


@pytest.mark.parametrize(("flags", "parts"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_one_sentence(
    flags: tuple[str, ...], parts: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    there = {path.name for path in tmp_path.iterdir()}
    ended = command(*FIT, *flags)
    assert ended.status == 2, ended
    sentence = one_sentence(ended)
    for part in parts:
        assert part in sentence
    left = {path.name for path in tmp_path.iterdir()} - there
    assert left <= {"__pycache__", ".out.stdout", ".out.stderr"}


def test_own_code_that_ends_the_program(command: Command, tmp_path: Path) -> None:
    ended = command(*FIT, NET, "own.Ends")
    assert ended.status == 1
    assert "Your code ends the program: SystemExit: 3 (own.py, line" in ended.stderr
    assert not (tmp_path / "lightning_logs").exists()


def test_metrics_of_one_class_are_told_apart(command: Command, tmp_path: Path) -> None:
    several = (METRICS, "own.Share", METRICS, "own.Share", f"{METRICS}.k", "3")
    ended = command(*FIT, *several, METRICS, "own.Plain", "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    header = (tmp_path / RUN / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/Share_k_2", "val/Share_k_3", "val/Plain"} <= set(header)


def test_what_looks_like_a_mistake_is_said_and_trained(command: Command, tmp_path: Path) -> None:
    short = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    ended = command(*FIT, NET, "own.Softmax", "--data.mean", "[127,127,127]", *short)
    assert ended.status == 0, ended.stderr
    assert "--model.net Softmax gives what looks like probabilities" in ended.stderr
    assert "--data.mean [127.0, 127.0, 127.0]: pixels go from 0 to 1" in ended.stderr
    assert "trained        1 epoch, 1 step\n" in ended.stdout
    for split in ("train", "test"):
        write_images(tmp_path / "images" / split / "only", 20, 100)
    source = ("--data.source", "ImageFolder", "--data.source.root", "images")
    ended = command("fit", NET, "own.Outer.Inner", *source, *short, "--trainer.accelerator", "cpu")
    assert ended.status == 0, ended.stderr
    assert "The data have one class alone (only)" in ended.stderr


def test_code_that_has_changed_is_said(command: Command, tmp_path: Path) -> None:
    assert command(*FIT, NET, "own.Outer.Inner", LOSS, "stand_ins.MeanSquares").status == 0
    said = "The code of own has changed since lightning_logs/version_0/checkpoints/"
    ended = command("test")
    assert ended.status == 0, ended.stderr
    assert "has changed" not in ended.stderr
    (tmp_path / "own.py").write_text(f"{OWN}\n# another line\n")
    for argv in (("test",), ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")):
        ended = command(*argv)
        assert ended.status == 0, ended.stderr
        assert ended.stderr.count(said) == 1
    ended = command("test", "--ckpt_path", "last")
    assert "has changed" not in ended.stderr
