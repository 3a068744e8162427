"""What several tests need: flags of small runs, and how runs are read and compared."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from program import Command, Finished
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.metrics import Evaluation, EvaluationMetrics
from cifar_lightning.runs.checkpoint_io import read_checkpoint

# --- flags ---

TINY = (
    "--model.net", "stand_ins.Tiny",
    "--data.source", "Shapes", "--data.source.size", "300", "--data.val_size", "50",
    "--data.batch_size", "32",
    "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "3", "--trainer.accelerator", "cpu",
    "--dashboard.pictures_every_n_epochs", "0",
)  # fmt: skip
"""A run of 3 epochs of 8 steps, the last batch short, that takes no time."""
EPOCHS, STEPS = 3, 8  # of a TINY run

SCHEDULED = (
    "--dashboard.pictures_every_n_epochs", "5",
    "--model.lr_scheduler", "torch.optim.lr_scheduler.LinearLR",
    "--model.lr_scheduler.start_factor", "1", "--model.lr_scheduler.end_factor", "0",
    "--model.lr_scheduler.total_iters", "-1", "--model.lr_scheduler_interval", "step",
    "--model.warmup", "0.3", "--model.label_smoothing", "0.1", "--model.initialisation", "kaiming",
    "--model.optimizer", "SGD", "--model.optimizer.weight_decay", "0.001",
    "--data.flip", "alternating", "--data.translate", "3", "--data.cutout", "8",
    "--data.jitter", "0.2",
)  # fmt: skip
"""A whole recipe, to go with TINY."""

CIFAR10_TINY = (
    "--model.net", "stand_ins.Tiny", "--data.val_size", "50", "--trainer.max_epochs", "1",
    "--trainer.accelerator", "cpu",
)  # fmt: skip
"""A run of one epoch on ``fake_cifar10``'s archive."""

LONG = (*TINY, *SCHEDULED, "--trainer.max_epochs", "13")
"""A run of 104 steps."""

SAVE_OFTEN = ("--checkpoints.every_seconds", "0")
EVERY_STEP = ("--trainer.log_every_n_steps", "1")

BOUNDARIES = [
    ("on_train_batch_start", 0),
    ("on_train_batch_end", 3),
    ("on_before_optimizer_step", 4),
    ("on_train_batch_end", STEPS - 1),
    ("on_train_batch_start", STEPS - 1),
    ("on_validation_start", 1),
    ("on_validation_batch_end", 3),
    ("on_validation_end", 0),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_start", 1),
    ("on_train_batch_start", STEPS),
    ("on_validation_end", EPOCHS - 1),
    ("on_train_end", 0),
]
"""Hooks of a TINY run, and at which call of them it is interrupted."""


def stop_at(hook: str, call: int) -> tuple[str, ...]:
    """Flags for ``stand_ins.StopAt``."""
    argument = "--trainer.callbacks"
    return (argument, "stand_ins.StopAt", f"{argument}.hook", hook, f"{argument}.call", str(call))


def signal_at(hook: str, signal_name: str, call: int) -> tuple[str, ...]:
    """Flags for ``stand_ins.SignalAt``."""
    arguments = {"hook": hook, "signal_name": signal_name, "call": str(call)}
    flags = [word for k, v in arguments.items() for word in (f"--trainer.callbacks.{k}", v)]
    return ("--trainer.callbacks", "stand_ins.SignalAt", *flags)


# --- what was printed ---

# What a command may have said before it fails: the run's first lines, flags that have changed, and
# what the disk refused.
_SAID_BEFORE = re.compile(
    r"--\S+: .*, was .*"
    r"|--\S+ .* does not count: .*"
    r"|\S+, [\d,]+ parameters, on .*"
    r"|Going on from .*"
    r"|\S+ could not be written \(.*\); the older checkpoint is kept, training goes on"
    r"|\S+ cannot be written \(.*\); trying again"
)


def one_sentence(ended: Finished) -> str:
    """Assert that a command failed, and that it says why in one sentence, which is given back.

    It is one line, the last, and alone but for what a run says while it goes well.

    Args:
        ended: how the command ended.
    """
    assert ended.status in (1, 2), ended
    assert "Traceback" not in ended.stderr, ended
    lines = [line for line in ended.stderr.splitlines() if not _SAID_BEFORE.fullmatch(line)]
    assert len(lines) == 1, ended
    assert ended.stderr.endswith(f"{lines[0]}\n"), ended
    name, _, sentence = lines[0].partition(": ")
    assert name == "cifar_lightning", ended
    assert sentence == sentence.strip(), ended
    assert sentence, ended
    assert sentence[-1] in ".!?)]", ended
    return sentence


def succeeded(ended: list[Finished]) -> bool:
    """Assert that all of several processes succeeded."""
    assert [one.status for one in ended] == [0] * len(ended), ended
    return True


# --- options ---


def options_of(command: Command, name: str) -> dict[str, Any]:
    """Every option of a command that has a value, with its default."""
    ended = command(name, "--print_config")
    assert ended.status == 0, ended.stderr
    return dict(_flat(yaml.safe_load(ended.stdout)))


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and "class_path" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- runs ---

RUN = Path("lightning_logs/version_0")


def only_run(folder: Path) -> Path:
    """The run of a folder that is not the first attempt, if that was killed before its first
    checkpoint."""
    (run,) = [path.parent for path in folder.glob("lightning_logs/*/checkpoints")]
    return run


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def logged(run: Path, column: str) -> list[float]:
    """The numbers in a column of a run's ``metrics.csv``."""
    return [float(row[column]) for row in rows(run / "metrics.csv") if row.get(column)]


def last_state(run: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds."""
    state: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return state


def net_weights(run: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a run's last checkpoint, by their names in the network."""
    state = last_state(run)["state_dict"]
    return {name[4:]: v for name, v in state.items() if name.startswith("net.")}


def events(run: Path) -> EventAccumulator:
    """What TensorBoard finds in a run's folder, all of it."""
    return EventAccumulator(str(run), {"scalars": 0, "images": 0, "tensors": 0}).Reload()


def files(folder: Path) -> dict[Path, bytes]:
    """What is in the files of a folder and of those below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcome(run: Path) -> dict[str, Any]:
    """Everything of a run that must be equal, to the bit: all but clock times."""
    last = last_state(run)
    best = sorted(run.glob("checkpoints/epoch=*"))
    scalars = events(run)
    tags = [tag for tag in scalars.Tags()["scalars"] if not tag.startswith("speed/")]
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step", "loops")
    return {
        **{key: last[key] for key in kept},
        "best": [(path.name, torch.load(path, weights_only=True)["state_dict"]) for path in best],
        "rows": [
            {k: v for k, v in row.items() if "speed" not in k} for row in rows(run / "metrics.csv")
        ],
        "scalars": {tag: [(e.step, e.value) for e in scalars.Scalars(tag)] for tag in tags},
    }


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Assert that two nested structures are the same, tensors to the bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where}: {a} {b}"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, f"{where}: {a} {b}"


def assert_alike(run: Path, other: Path, names: str = "", weights: float = 1e-4) -> None:
    """Assert that two runs differ in their rounding alone.

    Metrics are within 1e-5, those that count validation images are equal; all weights together are
    within a share of their norm.

    Args:
        run: the folder of one run.
        other: that of the other.
        names: a regular expression; metrics that it does not find are not looked at.
        weights: the share.
    """
    ours, theirs = (
        [
            {k: float(v) for k, v in row.items() if v and "speed" not in k}
            for row in rows(one / "metrics.csv")
        ]
        for one in (run, other)
    )
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for name in (name for name in a if re.search(names, name)):
            exact = name.startswith(("val/acc", "val_acc", "epoch", "step", "lr"))
            assert abs(a[name] - b[name]) <= (0 if exact else 1e-5), (name, a["step"])
    one, two = (json.loads((r / "summary.json").read_text())["best"] for r in (run, other))
    assert one == two
    one, two = (read_checkpoint(r / "checkpoints/last.ckpt")["state_dict"] for r in (run, other))
    first, second = (
        torch.cat([v.flatten() for k, v in s.items() if "net." in k]) for s in (one, two)
    )
    assert (first - second).norm() / first.norm() < weights


def probabilities_of(run: Path, images: torch.Tensor) -> torch.Tensor:
    """What a TINY run's best checkpoint says of images, uint8 N×H×W×3."""
    best = next((run / "checkpoints").glob("epoch=*"))
    classifier = ImageClassifier.load_from_checkpoint(best, map_location="cpu").eval()
    with torch.no_grad():
        logits: torch.Tensor = classifier(CIFAR10DataModule(Shapes(50)).normalise(images))
    return logits.softmax(dim=1)


# --- images ---


def write_images(folder: Path, count: int, shade: int = 100) -> None:
    """Write ``0.png``, ``1.png``, …, 32×32, into a new folder: red is the number, green the shade,
    blue 7."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (32, 32), (number, shade, 7)).save(folder / f"{number}.png")


def evaluated(probabilities: torch.Tensor, labels: torch.Tensor) -> Evaluation:
    """A pass with these probabilities, float N×K, and labels, int64 N."""
    metrics = EvaluationMetrics(probabilities.shape[1])
    metrics.update(torch.zeros(()), probabilities.log(), labels)
    return metrics.evaluation(probabilities, labels)
