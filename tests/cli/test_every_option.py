"""Every option of the commands changes something, or is refused, or is answered with a line."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import RUN, TINY, events, one_sentence, options_of
from program import TESTS, Command

from cifar_lightning.cli.hidden import REFUSED, WITHOUT_EFFECT
from cifar_lightning.cli.options import OPTIONS

# Options, and where it shows that they have an effect: a test file that gives them.
ELSEWHERE = {
    "seed_everything": "promises/test_exact_resume.py",
    "ckpt_path": "cli/test_resume.py",
    "run_name": "cli/test_resume.py",
    "data.source": "data/test_source.py",
    "data.batch_size": "promises/test_number_of_processes.py",
    "data.val_size": "promises/test_honest.py",
    "data.flip": "promises/test_same_mathematics.py",
    "data.translate": "promises/test_same_mathematics.py",
    "data.cutout": "promises/test_same_mathematics.py",
    "to": "commands/test_predictions.py",
    "data.images": "commands/test_predictions.py",
    "model.net": "test_own_parts.py",
    "model.loss": "test_own_parts.py",
    "model.weights": "cli/test_trial.py",
    "model.metrics": "test_own_parts.py",
    "model.optimizer": "cli/test_flags.py",
    "model.lr_scheduler": "cli/test_resume.py",
    "model.lr_scheduler_interval": "cli/test_resume.py",
    "model.warmup": "test_schedules.py",
    "model.label_smoothing": "test_own_parts.py",
    "model.memory_format": "cli/test_auto.py",
    "model.compile": "promises/test_same_mathematics.py",
    "model.flip_averaging": "promises/test_honest.py",
    "checkpoints.every_seconds": "helpers.py",
    "dashboard.pictures_every_n_epochs": "callbacks/test_dashboard.py",
    "dashboard.histograms": "callbacks/test_dashboard.py",
    "trainer.accelerator": "promises/test_one_sentence.py",
    "trainer.strategy": "promises/test_one_sentence.py",
    "trainer.devices": "promises/test_number_of_processes.py",
    "trainer.num_nodes": "processes/test_two_machines.py",
    "trainer.precision": "promises/test_number_of_processes.py",
    "trainer.callbacks": "callbacks/test_averaging.py",
    "trainer.max_epochs": "cli/test_resume.py",
    "trainer.max_steps": "promises/test_exact_resume.py",
    "trainer.max_time": "promises/test_exact_resume.py",
    "trainer.limit_train_batches": "cli/test_repeats.py",
    "trainer.limit_test_batches": "promises/test_honest.py",
    "trainer.val_check_interval": "promises/test_exact_resume.py",
    "trainer.check_val_every_n_epoch": "callbacks/test_progress.py",
    "trainer.log_every_n_steps": "callbacks/test_dashboard.py",
    "trainer.overfit_batches": "promises/test_overfit.py",
    "trainer.accumulate_grad_batches": "promises/test_number_of_processes.py",
    "trainer.enable_progress_bar": "callbacks/test_progress.py",
}

# Given all together, to one run: the option, its flags, and what must then hold. Of the run that
# has none of them, the opposite.
SEEN: dict[str, tuple[tuple[str, ...], Any]] = {
    "trainer.logger": (
        ("pytorch_lightning.loggers.CSVLogger", "--trainer.logger.save_dir", "by_hand"),
        lambda t: (t.folder / "by_hand").exists(),
    ),
    "trainer.default_root_dir": (
        ("elsewhere",), lambda t: (t.folder / "elsewhere" / RUN / "config.yaml").exists(),
    ),
    "trainer.enable_model_summary": (("true",), lambda t: "Total params" in t.printed),
    "trainer.profiler": (("simple",), lambda t: "FIT Profiler Report" in t.printed),
    "trainer.min_epochs": (("2",), lambda t: t.seen["steps"] == 16),
    "trainer.limit_val_batches": (("1",), lambda t: t.seen["validation_batches"] == 1),
    "trainer.num_sanity_val_steps": (("1",), lambda t: t.seen["sanity_batches"] == 1),
    "trainer.gradient_clip_val": (("0.001",), lambda t: t.seen["largest_gradient"] <= 0.00101),
    "trainer.gradient_clip_algorithm": (
        ("value",), lambda t: t.seen["equal_gradients"],
    ),
    "trainer.deterministic": (("true",), lambda t: t.seen["deterministic"]),
    "trainer.benchmark": (("true",), lambda t: t.seen["benchmark"]),
    "trainer.detect_anomaly": (("true",), lambda t: t.seen["anomaly"]),
    "trainer.plugins": (
        ("pytorch_lightning.plugins.precision.DoublePrecision",),
        lambda t: t.seen["dtype"] == "torch.float64",
    ),
    "data.mean": (("[-1,-1,-1]",), lambda t: t.seen["darkest"] > 0),
    "data.std": (("[0.1,0.1,0.1]",), lambda t: t.seen["brightest"] > 3),
    # half of what is from black to white: 5 with that deviation, unless an image is changed
    "data.jitter": (("1",), lambda t: t.seen["brightest"] > 6),
    "model.initialisation": (("kaiming",), lambda t: t.seen["largest_bias"] == 0),
    "checkpoints.monitor": (("val/loss",), lambda t: t.summary["best"]["monitor"] == "val/loss"),
}  # fmt: skip
# Likewise, of one that has nothing of the dashboard, and asks for a stop after its first step.
IN_TENSORBOARD: dict[str, tuple[tuple[str, ...], Any]] = {
    "dashboard.layout": (("false",), lambda t: "custom_scalars__config__" not in t.tags),
    "dashboard.gradient_norm": (("false",), lambda t: "train/grad_norm" not in t.tags),
    "dashboard.class_accuracy": (("false",), lambda t: "val_acc/ring" not in t.tags),
    "dashboard.card": (("false",), lambda t: not (t.run / "card.json").exists()),
    "dashboard.hparams": (("false",), lambda t: "best/val/acc" not in t.tags),
    "dashboard.graph": (("false",), lambda t: not t.has_graph),
    "trainer.min_steps": (("12",), lambda t: t.summary["global_step"] == 12),
}
# Shown by tests of their own, below.
APART = {"trainer.fast_dev_run", "trainer.limit_predict_batches", "trainer.inference_mode"}

EARLY = ("stand_ins.StopAt", "--trainer.callbacks.hook", "on_train_batch_end",
         "--trainer.callbacks.call", "0")  # fmt: skip


class Trial:
    """What is left of a run."""

    def __init__(self, folder: Path, printed: str) -> None:
        self.folder, self.printed = folder, printed
        self.run = next(folder.rglob("lightning_logs/version_0"))
        self.summary = json.loads((self.run / "summary.json").read_text())
        self.seen = json.loads((folder / "witness.json").read_text())

    @property
    def tags(self) -> set[str]:
        there = events(self.run).Tags()
        return {*there["scalars"], *there["tensors"]}

    @property
    def has_graph(self) -> bool:
        return bool(events(self.run).Tags()["graph"])


def tried(command: Command, folder: Path, options: dict[str, Any], *flags: str) -> Trial:
    folder.mkdir()
    given = [word for name, (value, _) in options.items() for word in (f"--{name}", *value)]
    witness = ("--trainer.callbacks", "stand_ins.Witness")
    ended = command("fit", *TINY, *witness, *given, *flags, folder=folder)
    assert ended.status == 0, ended.stderr
    return Trial(folder, ended.stdout + ended.stderr)


def test_the_list_is_whole(command: Command) -> None:
    listed = {*ELSEWHERE, *SEEN, *IN_TENSORBOARD, *APART, *REFUSED}
    there = set().union(*(options_of(command, name) for name in OPTIONS))
    assert there - listed == set(), "say what these do"
    assert listed - there == set(), "no such options"
    for option, file in ELSEWHERE.items():
        assert option in (TESTS / file).read_text(), f"{option} is not in {file}"


def test_each_option_shows(command: Command, tmp_path: Path) -> None:
    without = tried(command, tmp_path / "without", {})
    for name, options in (("seen", SEEN), ("tensorboard", IN_TENSORBOARD)):
        trial = tried(command, tmp_path / name, options, "--trainer.callbacks+", *EARLY)
        assert [option for option, (_, holds) in options.items() if not holds(trial)] == []
        assert [option for option, (_, holds) in options.items() if holds(without)] == []


@pytest.mark.parametrize("option", REFUSED)
def test_what_is_decided_here_is_refused(option: str, command: Command) -> None:
    refused = {"reload_dataloaders_every_n_epochs": "1", "model_registry": "mine",
               "barebones": "true", "sync_batchnorm": "true"}  # fmt: skip
    value = refused.get(option.removeprefix("trainer."), "false")
    ended = command("fit", *TINY, f"--{option}", value)
    assert ended.status == 2
    assert one_sentence(ended).startswith(f"--{option} {value}: ")


def test_the_whole_configuration_of_a_run_is_not_refused(command: Command, run: Path) -> None:
    ended = command("fit", "--config", str(run / "config.yaml"), "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    assert "changes nothing" not in ended.stderr


def test_what_another_command_does_is_said(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("trainer: {max_epochs: 9}\n")
    flags = ("--config", "recipe.yaml", "--trainer.max_steps", "3", "--model.compile", "default",
             "--trainer.limit_val_batches", "2")  # fmt: skip
    ended = command("test", *flags)
    assert ended.status == 0, ended.stderr
    said = [line for line in ended.stderr.splitlines() if "changes nothing" in line]
    assert said == [
        "--trainer.max_steps changes nothing in test.",
        "--model.compile changes nothing in test.",
        "--trainer.limit_val_batches changes nothing in test.",
    ]


def test_without_effect_are_options_that_there_are(command: Command) -> None:
    there = options_of(command, "fit")
    for names in WITHOUT_EFFECT.values():
        for name in names:
            assert any(f"{option}.".startswith(f"{name}.") for option in there), name


def test_a_trial_leaves_no_file(command: Command, run: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    for flags in (("fit", *TINY), ("validate",), ("test",), ("predict",)):
        ended = command(*flags, "--trainer.fast_dev_run", "true")
        assert ended.status == 0, ended.stderr
    ended = command("predict", "--trainer.limit_predict_batches", "1")
    assert "this was a trial" in ended.stderr
    assert set(tmp_path.rglob("*")) - before <= {
        tmp_path / ".out.stdout", tmp_path / ".out.stderr", tmp_path / ".cache"
    }  # fmt: skip


def test_inference_mode_is_for_evaluation(command: Command, run: Path, tmp_path: Path) -> None:
    for mode in (True, False):
        flags = ("--trainer.inference_mode", str(mode), "--trainer.callbacks", "stand_ins.Witness")
        assert command("validate", *flags).status == 0
        seen = json.loads((tmp_path / "witness.json").read_text())
        assert seen["inference_mode"] is mode


def test_tensorboard_s_options_without_it(command: Command, tmp_path: Path) -> None:
    flags = ("--trainer.logger", "false", "--dashboard.graph", "true", "--trainer.max_epochs", "1")
    ended = command("fit", *TINY, *flags)
    assert ended.status == 0, ended.stderr
    assert "--dashboard.graph is for TensorBoard, which --trainer.logger leaves" in ended.stderr
