"""Images of one's own, from the folder to the end of a run."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import RUN, events, last_state, one_sentence, write_images
from program import Command

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import ImageFolder
from cifar_lightning.errors import UsageError, UserError

FIT = (
    "fit", "--data.source", "ImageFolder", "--data.source.root", "images",
    "--model.net", "stand_ins.Tiny", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
    "--dashboard.pictures_every_n_epochs", "0",
)  # fmt: skip


def write_classes(root: Path, **of_split: dict[str, int]) -> None:
    """Write so many images of each class of each split."""
    for split, classes in of_split.items():
        for shade, (name, count) in enumerate(classes.items()):
            write_images(root / split / name, count, shade % 256)


def test_without_arithmetic(command: Command, tmp_path: Path) -> None:
    sizes = {"猫": 17, "one": 1, "犬": 9}
    write_classes(tmp_path / "images", train=sizes, test=dict.fromkeys(sizes, 1))
    ended = command(*FIT)
    assert ended.status == 0, ended.stderr
    assert "training on 24 images, validating on 3 held out of them" in ended.stderr
    assert yaml.safe_load((tmp_path / RUN / "config.yaml").read_text())["data"]["val_size"] == 0.1
    assert last_state(tmp_path / RUN)["global_step"] == 1
    ended = command("test")
    assert ended.status == 0, ended.stderr
    assert "#0 for" not in ended.stdout
    assert ended.stderr.count("Pictures show numbers in the place of names") == 1
    rows = [line for line in ended.stdout.splitlines() if line.startswith(("猫", "犬", "one"))]
    assert [row[:6] for row in rows] == ["one   ", "犬    "[:5] + " ", "猫    "[:5] + " "]
    assert len({len(row) + sum(c in "猫犬" for c in row) for row in rows}) == 1  # cells


def test_many_classes(command: Command, tmp_path: Path) -> None:
    names = [f"class {number:03}" for number in range(200)]
    write_classes(tmp_path / "images", train=dict.fromkeys(names, 2), test=dict.fromkeys(names, 1))
    ended = command(*FIT, "--data.val_size", "20")
    assert ended.status == 0, ended.stderr
    tags = [tag for tag in events(tmp_path / RUN).Tags()["scalars"] if tag.startswith("val_acc/")]
    assert sorted(tags) == ["val_acc/highest", "val_acc/lowest", "val_acc/median"]
    ended = command("test")
    assert ended.status == 0, ended.stderr
    assert sum(line.startswith("class ") for line in ended.stdout.splitlines()) == 30
    assert "the 30 classes with the lowest F1" in ended.stdout
    report = json.loads((tmp_path / RUN / "test_report.json").read_text())
    assert list(report["classes"]) == names


def test_one_class(command: Command, tmp_path: Path) -> None:
    write_classes(tmp_path / "images", train={"only": 5}, test={"only": 2})
    ended = command(*FIT, "--dashboard.pictures_every_n_epochs", "1")
    assert ended.status == 0, ended.stderr
    assert "1 class, training on 4 images, validating on 1 held out of them" in ended.stderr
    assert command("test").status == 0


def test_a_validation_split_of_its_own(command: Command, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_classes(images, train={"a": 6, "b": 6}, val={"a": 2, "b": 3}, test={"a": 1, "b": 1})
    refused = command(*FIT, "--data.val_size", "2")
    assert refused.status == 2
    assert "--data.val_size 2: ImageFolder has a validation split" in one_sentence(refused)
    assert not (tmp_path / "lightning_logs").exists()
    ended = command(*FIT)
    assert ended.status == 0, ended.stderr
    assert "training on 12 images, validating on 5 of the validation split" in ended.stderr
    summary = json.loads((tmp_path / RUN / "summary.json").read_text())
    assert summary["validated_on"] == "the validation split"
    assert command("validate").status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 0, ended.stderr
    shutil.move(images / "val/a/0.png", images / "val/b/9.png")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert "are not those that" in one_sentence_after(ended.stderr)
    assert "are not those that" in one_sentence_after(command("validate").stderr)
    shutil.rmtree(images / "val")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert "are not those that" in one_sentence_after(ended.stderr)


def test_no_validation(command: Command, tmp_path: Path) -> None:
    write_classes(tmp_path / "images", train={"a": 1, "b": 1}, test={"a": 1, "b": 1})
    refused = one_sentence(command(*FIT))
    assert "of 2 training images at most 0 can be held out" in refused
    assert "null validates on nothing" in refused
    ended = command(*FIT, "--data.val_size", "null")
    assert ended.status == 0, ended.stderr
    assert len(ended.stderr.splitlines()) <= 2, ended.stderr  # the second is about the logging
    assert "validation     none" in ended.stdout
    assert "test --ckpt_path lightning_logs/version_0/checkpoints/last.ckpt" in ended.stdout
    assert "val loss" not in ended.stdout
    summary = json.loads((tmp_path / RUN / "summary.json").read_text())
    assert summary["best"] is summary["validated_on"] is None
    ended = command("test")
    assert ended.status == 0, ended.stderr
    assert "has no best epoch, as it validates nothing: its last one is used" in ended.stderr
    assert json.loads((tmp_path / RUN / "test_report.json").read_text())["of_the_run"]
    ended = command("compare")
    assert ended.stderr == ""
    assert " 50.00 % " in ended.stdout
    assert "no images to validate on" in one_sentence_after(command("validate").stderr)
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 0, ended.stderr
    ended = command("compare")
    assert "is not quoted" in ended.stderr  # what was tested is no longer the last
    assert " 50.00 % " not in ended.stdout


def one_sentence_after(stderr: str) -> str:
    """The sentence by which a command ends that has said by what it goes."""
    return stderr.splitlines()[-1].removeprefix("cifar_lightning: ")


def test_larger_images(command: Command, tmp_path: Path) -> None:
    write_classes(tmp_path / "images", train={"a": 2, "b": 2}, test={"a": 1, "b": 1})
    large = ("--data.source.resize", "64", "--data.val_size", "null")
    refused = one_sentence(command(*FIT, *large, "--model.net", "AlexNet"))
    assert "AlexNet cannot take images of 64×64 pixels: it takes 32×32" in refused
    ended = command(*FIT, *large, "--model.net", "stand_ins.AnySide")
    assert ended.status == 0, ended.stderr
    assert last_state(tmp_path / RUN)["cifar_lightning"]["image_side"] == 64
    ended = command("predict", "--data.images", "images/test")
    assert ended.status == 0, ended.stderr


def prepare(root: Path) -> None:
    CIFAR10DataModule(ImageFolder(root)).prepare_data()


def test_what_the_test_split_lacks_is_known_before_training(tmp_path: Path) -> None:
    write_classes(tmp_path, train={"a": 2, "b": 2}, test={"a": 1, "c": 1})
    with pytest.raises(UserError, match=r"train and test must have the same .* b, c are in one"):
        prepare(tmp_path)
    (tmp_path / "test/c").rename(tmp_path / "test/b")
    prepare(tmp_path)
    (tmp_path / "test/b/0.png").rename(tmp_path / "test/b/.0.png")
    with pytest.raises(UserError, match=r"test/b holds no images"):
        prepare(tmp_path)
    write_classes(tmp_path, val={"a": 2})
    with pytest.raises(UserError, match=r"train and val must have the same .* b is in one"):
        prepare(tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    write_classes(tmp_path, train={"a": 2, "b": 2}, test={"a": 1, "b": 1})
    for split in ("train", "test"):
        odd = tmp_path / split / "a" / "odd.png"
        odd.symlink_to("nowhere")
        with pytest.raises(UserError, match=r"odd\.png cannot be read \(it is a link to nothing\)"):
            prepare(tmp_path)
        odd.unlink()
        odd.symlink_to(odd)
        with pytest.raises(UserError, match=r"odd\.png cannot be read \(Too many levels"):
            prepare(tmp_path)
        odd.unlink()
        os.mkfifo(odd)
        with pytest.raises(UserError, match=r"odd\.png is no regular file"):
            prepare(tmp_path)
        odd.unlink()
        (tmp_path / split / "gone").symlink_to("nowhere")
        with pytest.raises(UserError, match=r"gone cannot be read \(it is a link to nothing\)"):
            prepare(tmp_path)
        (tmp_path / split / "gone").unlink()
    prepare(tmp_path)
    (tmp_path / "train/a").rename(tmp_path / os.fsdecode(b"train/\xff"))
    with pytest.raises(UserError, match="Unicode"):
        _ = CIFAR10DataModule(ImageFolder(tmp_path)).num_classes


def test_what_one_may_not_read(command: Command, tmp_path: Path) -> None:
    write_classes(tmp_path / "images", train={"a": 2, "b": 2}, test={"a": 1, "b": 1})
    for name in ("images/test/b/0.png", "images/train/b", "images/train/a/0.png"):
        (tmp_path / name).chmod(0)
        said = one_sentence(command(*FIT, obeys_permissions=True))
        (tmp_path / name).chmod(0o700)
        assert f"{name} cannot be read (Permission denied)" in said
    assert not (tmp_path / "lightning_logs").exists()


def test_python_refuses_a_size_beside_a_split(tmp_path: Path) -> None:
    write_classes(tmp_path, train={"a": 2}, val={"a": 1}, test={"a": 1})
    with pytest.raises(UsageError, match="a validation split of its own"):
        CIFAR10DataModule(ImageFolder(tmp_path), val_size=1).setup("fit")
    data = CIFAR10DataModule(ImageFolder(tmp_path), batch_size=1000)
    data.setup("fit")
    assert [len(labels) for _, labels in data.train_dataloader()] == [2]
    assert [len(labels) for _, labels in data.val_dataloader()] == [1]
