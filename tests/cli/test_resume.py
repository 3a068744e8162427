"""What a resumed run may change, and what is said of it."""

from pathlib import Path

import pytest
import torch
import yaml
from helpers import RUN, TINY, events, files, last_state, one_sentence, write_images
from PIL import Image
from program import Command


def test_resume_of_a_finished_run(command: Command, run: Path) -> None:
    before = files(run)
    ended = command("fit", "--ckpt_path", "last")
    assert (ended.status, "this run is finished" in ended.stderr) == (0, True)
    assert before == files(run)


PAST = [
    ("--seed_everything", "7"),
    ("--data.batch_size", "16"),
    ("--data.source.size", "500"),
    ("--data.val_size", "100"),
    ("--data.translate", "2"),
    ("--model.label_smoothing", "0.1"),
    ("--model.net", "AlexNet"),
    ("--trainer.limit_train_batches", "2"),
]


@pytest.mark.parametrize("flag", PAST, ids=lambda flag: flag[0])
def test_the_past_cannot_be_changed(flag: tuple[str, str], command: Command, run: Path) -> None:
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4", *flag)
    assert ended.status == 2
    sentence = one_sentence(ended)
    assert sentence.startswith(f"{flag[0]} ")
    assert "would change what this run has already trained with" in sentence


def test_the_best_is_sought_by_one_metric(command: Command, run: Path) -> None:
    before = files(run)
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "4")
    ended = command("fit", *more, "--checkpoints.monitor", "val/loss")
    assert ended.status == 2
    assert "kept its best epoch by val/acc" in one_sentence(ended)
    assert files(run) == before


def test_other_images_are_noticed(command: Command, tmp_path: Path) -> None:
    for split, count in (("train", 30), ("test", 5)):
        for shade, name in enumerate(("dark", "light")):
            write_images(tmp_path / split / name, count, 200 * shade)
    flags = ("--data.source", "ImageFolder", "--data.source.root", ".", "--data.val_size", "10")
    assert command("fit", *TINY, *flags, "--trainer.max_epochs", "1").status == 0
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "train/dark/3.png")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 1
    assert "The training images are not those that" in one_sentence(ended)


def test_what_changes_is_said_and_done(command: Command, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    flags = ("--trainer.max_epochs", "4", "--model.optimizer.lr", "0.125")
    ended = command("fit", "--ckpt_path", "last", *flags)
    assert ended.status == 0, ended.stderr
    assert "--trainer.max_epochs: 4, was 3" in ended.stderr
    assert "--model.optimizer.lr: 0.125, was 0.01" in ended.stderr
    assert (run / "config.yaml").read_bytes() == before
    assert "max_epochs: 4" in (run / "config-resume-1.yaml").read_text()
    assert last_state(run)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.125


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_rates_keep_their_proportion_and_what_cannot_change_is_refused(
    command: Command, tmp_path: Path
) -> None:
    muon = ("--model.net", "LeNet5", "--model.optimizer", "MuonSGD", "--model.optimizer.lr", "0.02",
            "--model.optimizer.sgd_lr", "0.01")  # fmt: skip
    ended = command("fit", *TINY, *muon, "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    before = contents(tmp_path / RUN)
    on = ("--ckpt_path", "last", "--trainer.max_epochs", "2")
    ended = command("fit", *on, "--model.optimizer.sgd_lr", "0.1")
    assert ended.status == 2
    assert "MuonSGD asks for it when it is made" in one_sentence(ended)
    assert contents(tmp_path / RUN) == before
    changed = ("--model.optimizer.lr", "0.01", "--model.optimizer.iterations", "2")
    ended = command("fit", *on, *changed)
    assert ended.status == 0, ended.stderr
    hidden, *others = last_state(tmp_path / RUN)["optimizer_states"][0]["param_groups"]
    assert (hidden["lr"], hidden["iterations"]) == (0.01, 2)
    assert [(group["lr"], "iterations" in group) for group in others] == [(0.005, False)] * 2


COMPUTED_BY = {"torch": "torch 2.9.0", "device": "cpu: a 6502", "threads": "2 threads"}


def test_an_option_of_a_later_version(command: Command, tmp_path: Path) -> None:
    """What the checkpoint's version did not have is at its default, and not to be had."""
    muon = ("--model.net", "LeNet5", "--model.optimizer", "MuonSGD", "--model.optimizer.lr", "0.02")
    assert command("fit", *TINY, *muon, "--trainer.max_epochs", "1").status == 0
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    config = content["cifar_lightning"]["config"]
    del config["data"]["jitter"]
    for later in ("first_layer", "last_layer", "convolution_iterations"):
        del config["model"]["optimizer"]["init_args"][later]
    del content["optimizer_states"][0]["param_groups"][0]["convolution_iterations"]
    torch.save(content, last)
    go_on = ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    asked = one_sentence(command(*go_on, "--data.jitter", "0.1"))
    assert "--data.jitter 0.1 would change what this run has already trained with" in asked
    recipe = "model: {optimizer: {class_path: MuonSGD, init_args: {lr: 0.02%s}}}\n"
    (tmp_path / "same.yaml").write_text(recipe % "")
    (tmp_path / "later.yaml").write_text(recipe % ", last_layer: true")
    asked = one_sentence(command(*go_on, "--config", "later.yaml"))
    assert "later.yaml: model.optimizer.last_layer True" in asked
    ended = command(*go_on, "--config", "same.yaml")
    assert ended.status == 0, ended.stderr
    assert "jitter" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("what", ["all", "nothing", "unknown"])
def test_another_machine_is_said(what: str, command: Command, run: Path) -> None:
    content = last_state(run)
    now = content["cifar_lightning"]["computed_by"]
    assert now["torch"] == f"torch {torch.__version__}"
    assert now["threads"] == "1 thread"
    was = COMPUTED_BY if what == "all" else {}
    expected = [f"{now[key]} (was {was[key]})" for key in was]
    content["cifar_lightning"]["computed_by"] = now | was
    if what == "unknown":  # to earlier versions
        del content["cifar_lightning"]["computed_by"]
    torch.save(content, run / "checkpoints/last.ckpt")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    said = [line for line in ended.stderr.splitlines() if "This run goes on with" in line]
    assert len(said) == bool(expected)
    for part in (*expected, "its bits may differ"):
        assert not said or part in said[0]
    now_on = last_state(run)["cifar_lightning"]["computed_by"]
    assert now_on == now


def test_decay_can_be_turned_on_when_a_run_goes_on(command: Command, run: Path) -> None:
    more = ("--trainer.max_epochs", "4", "--model.optimizer.weight_decay", "0.1")
    ended = command("fit", "--ckpt_path", "last", *more)
    assert ended.status == 0, ended.stderr
    groups = last_state(run)["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0]


def test_another_length_is_refused_where_the_schedule_spans_the_run(
    command: Command, tmp_path: Path
) -> None:
    asked = (
        "--model.lr_scheduler", "CosineAnnealingLR", "--model.lr_scheduler.T_max", "-1",
        "--model.lr_scheduler_interval", "step",
    )  # fmt: skip
    assert command("fit", *TINY, *asked).status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "5")
    assert ended.status == 2
    sentence = one_sentence(ended)
    assert sentence.startswith("--trainer.max_epochs 5: the learning-rate schedule spans the")


def test_a_run_s_name_is_kept_until_it_is_given_another(command: Command, tmp_path: Path) -> None:
    named = ("--run_name", "on: the | 42", "--trainer.max_epochs", "1")
    assert command("fit", *TINY, *named).status == 0
    run = tmp_path / RUN
    assert yaml.safe_load((run / "config.yaml").read_text())["run_name"] == "on: the | 42"
    card = events(run).Tensors("card/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "- **name**: on: the | 42\n" in card
    for epochs, given, expected in (("2", (), "on: the | 42"), ("3", ("--run_name", "7"), "7")):
        ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", epochs, *given)
        assert ended.status == 0, ended.stderr
        assert ("--run_name: 7, was on: the | 42" in ended.stderr) is bool(given)
        ended = command("compare")
        header, row = ended.stdout.splitlines()[:2]
        at = header.index("name")
        assert row[at:].startswith(expected)
        assert row.startswith("version_0  ")  # changed in its name alone, it is finished
    assert command("test").status == 0
