"""Options that are given more than once, and numbers that others make useless."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import RUN, TINY, logged, one_sentence, write_images
from program import Command

SHORT = (*TINY, "--trainer.max_epochs=1", "--trainer.limit_train_batches", "2")


def fit(command: Command, folder: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """The configuration of a run, and what was said of options that do not count."""
    ended = command("fit", *SHORT, *flags)
    assert ended.status == 0, ended.stderr
    config = yaml.safe_load((folder / RUN / "config.yaml").read_text())
    said = [line for line in ended.stderr.splitlines() if "does not count" in line]
    return config, [line for line in said if "max_epochs" not in line]


def test_callbacks_and_metrics_add_up(command: Command, tmp_path: Path) -> None:
    config, said = fit(
        command, tmp_path,
        "--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss",
        "--trainer.callbacks.patience", "2",
        "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor", "val/acc",
        "--trainer.callbacks.mode", "max",
        "--trainer.callbacks", "AveragedWeights",
        "--model.metrics", "torchmetrics.classification.MulticlassF1Score",
        "--model.metrics", "stand_ins.Confidence",
        "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "one",
        "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "two",
    )  # fmt: skip
    assert said == []
    one, two, three = config["trainer"]["callbacks"]
    assert (one["init_args"]["monitor"], one["init_args"]["patience"]) == ("val/loss", 2)
    assert (two["init_args"]["monitor"], two["init_args"]["mode"]) == ("val/acc", "max")
    assert three["class_path"].endswith("AveragedWeights")
    assert len(config["model"]["metrics"]) == 2
    assert (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()


def test_null_takes_all_back(command: Command, tmp_path: Path) -> None:
    words = ("AveragedWeights", "null", "LearningRateMonitor")
    flags = [flag for word in words for flag in ("--trainer.callbacks", word)]
    config, said = fit(command, tmp_path, *flags)
    only = config["trainer"]["callbacks"]
    assert only["class_path"].endswith("LearningRateMonitor")
    assert said[0] == (
        "--trainer.callbacks AveragedWeights does not count: --trainer.callbacks "
        "LearningRateMonitor stands later."
    )


def test_of_scalars_the_last_counts_and_that_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("data: {translate: 1}\n")
    net = "stand_ins.Tiny"
    (tmp_path / "later.yaml").write_text(
        f"data: {{translate: 2}}\nmodel: {{net: {{class_path: {net}}}}}\n"
    )
    config, said = fit(
        command, tmp_path, "--config", "first.yaml", "--data.batch_size", "16",
        "--data.batch_size=8", "--data.translate", "3", "--config", "later.yaml",
        "--model.optimizer.momentum", "0.5", "--model.optimizer", "Adam", "--data.flip", "true",
        "--data.flip=True",
    )  # fmt: skip
    assert (config["data"]["batch_size"], config["data"]["translate"]) == (8, 2)
    assert said == [
        "--data.batch_size 32 does not count: --data.batch_size 8 stands later.",
        "--data.batch_size 16 does not count: --data.batch_size 8 stands later.",
        "--data.translate 3 does not count: 2 from later.yaml stands later.",
        "--model.optimizer.momentum 0.5 does not count: --model.optimizer, given later, has none.",
    ]


def test_callbacks_of_a_config_are_not_dropped_in_silence(command: Command, tmp_path: Path) -> None:
    one = "trainer: {callbacks: [{class_path: AveragedWeights}]}\n"
    (tmp_path / "one.yaml").write_text(one)
    (tmp_path / "more.yaml").write_text("trainer: {callbacks+: {class_path: ModelSummary}}\n")
    config, said = fit(
        command, tmp_path, "--config", "one.yaml", "--trainer.callbacks", "LearningRateMonitor",
        "--config", "more.yaml",
    )  # fmt: skip
    assert len(config["trainer"]["callbacks"]) == 2
    assert said == [
        "AveragedWeights from one.yaml does not count: --trainer.callbacks LearningRateMonitor "
        "stands later; --trainer.callbacks+ adds to it."
    ]


def test_all_pictures_are_classified(command: Command, run: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_images(tmp_path / name, 1)
    ended = command("predict", "--data.images", "one", "--ckpt_path", "last", "--data.images=two")
    assert ended.status == 0, ended.stderr
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["one/0.png", "two/0.png"]


def test_other_commands_refuse_a_repeated_option(command: Command) -> None:
    for words in (("compare", "--logs", "a", "--logs", "b"), ("export", "--to=x", "--to", "y")):
        ended = command(*words)
        assert ended.status == 2
        assert "is given more than once" in one_sentence(ended)
    ended = command("export", "--to", "x.pt2", "--ckpt_path", "x.ckpt", "--logs", "there")
    assert "--logs there" in one_sentence(ended)


YAML = [
    ("data:\n  flip: true\ndata:\n  translate: 2\n", "line 3: data stands twice, first in line 1"),
    ("data:\n  flip: true\n  translate: 1\n  flip: false\n", "line 4: flip stands twice"),
    ("data: {batch_size: 8, batch_size: 16}\n", "line 1: batch_size stands twice"),
    ("data:\n  batch_size: 010\n", "line 2: YAML reads 010 as an octal number; write 10"),
    ("trainer:\n  max_time: 10:00:00:00\n", 'line 2: YAML counts 10:00:00:00 in sixties; write "'),
    ("data:\n\tflip: true\n", "line 2"),
    ("model: {optimizer: {class_path: SGD, init_args: {lr: .nan}}}\n", "lr nan must be a finite"),
]


@pytest.mark.parametrize(("text", "part"), YAML)
def test_what_yaml_takes_without_a_word(
    text: str, part: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    ended = command("fit", *TINY, "--config", "mine.yaml")
    assert ended.status == 2
    assert part in one_sentence(ended)


def test_other_yaml_is_read_as_strictly(command: Command, tmp_path: Path) -> None:
    (tmp_path / "group.yaml").write_text("batch_size: 8\nflip: true\nbatch_size: 16\n")
    (tmp_path / "outer.yaml").write_text("data: group.yaml\n")
    for words in (
        ("--data", "group.yaml"),
        ("--config", "outer.yaml"),
        ("--model.net", "{class_path: AlexNet, class_path: LeNet5}"),
    ):
        ended = command("fit", *words)
        assert ended.status == 2
        assert "stands twice" in one_sentence(ended)


def test_numbers_are_read_as_people_write_them(command: Command, tmp_path: Path) -> None:
    text = "model: {optimizer: {class_path: SGD, init_args: {lr: 1e-3}}}\ndata: {flip: off}\n"
    (tmp_path / "mine.yaml").write_text(text)
    ended = command("fit", "--config", "mine.yaml", "--trainer.max_time", "10:00:00:00",
                    "--data.val_size", "0500", "--print_config")  # fmt: skip
    assert ended.status == 0, ended.stderr
    config = yaml.safe_load(ended.stdout)
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.001
    assert config["data"]["flip"] is False
    assert config["data"]["val_size"] == 500
    assert config["trainer"]["max_time"] == "10:00:00:00"


def test_limits_that_are_not_reached_are_said(command: Command, tmp_path: Path) -> None:
    ended = command(
        "fit", *TINY, "--trainer.limit_train_batches", "100", "--trainer.limit_val_batches", "7",
        "--trainer.max_steps", "90", "--trainer.accumulate_grad_batches", "20",
    )  # fmt: skip
    assert ended.status == 0, ended.stderr
    for line in (
        "--trainer.limit_train_batches 100: there are but 8 batches; all are taken.",
        "--trainer.limit_val_batches 7: there are but 2 batches; all are taken.",
        "--trainer.accumulate_grad_batches 20: an epoch has but 8 batches, all in one step.",
        "--trainer.max_steps 90 is not reached: --trainer.max_epochs 3 ends the run after 3 steps.",
    ):
        assert line in ended.stderr
    ended = command("fit", *TINY, "--trainer.log_every_n_steps", "50")
    assert logged(tmp_path / "lightning_logs/version_1", "train/loss") == []
    line = "--trainer.log_every_n_steps 50 is not reached: the run has 24 steps, and is logged at"
    assert line in ended.stderr
    assert "logging interval" not in ended.stderr
    ended = command("fit", *TINY, "--trainer.log_every_n_steps", "null")
    assert "logging interval" not in ended.stderr
    assert len(logged(tmp_path / "lightning_logs/version_2", "train/loss")) == 3  # once an epoch
    ended = command("fit", *TINY, "--trainer.max_steps", "5")
    assert "--trainer.max_steps 5 ends the run before its first validation" in ended.stderr


@pytest.mark.parametrize("limit", [("max_epochs", "2", "3 epochs"), ("max_steps", "9", "24 steps")])
def test_less_than_was_trained(limit: tuple[str, str, str], command: Command, run: Path) -> None:
    name, value, trained = limit
    ended = command("fit", "--ckpt_path", "last", f"--trainer.{name}", value)
    assert ended.status == 2
    sentence = one_sentence(ended)
    assert sentence.startswith(f"--trainer.{name} {value}: ")
    assert f"has trained {trained} already" in sentence


def test_a_run_is_not_refused_for_what_it_was_begun_with(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--trainer.check_val_every_n_epoch", "3").status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
