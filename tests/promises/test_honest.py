"""Promise: a figure is of the images that it says, and what it was made with stands beside it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import TINY, events, files, one_sentence, write_images
from PIL import Image
from program import Command
from torch import Tensor

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.data.source import LabelledImages, Split


def test_the_test_split_is_read_by_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Split] = []
    load = Shapes.load

    def watched(self: Shapes, split: Split) -> LabelledImages:
        read.append(split)
        return load(self, split)

    monkeypatch.setattr(Shapes, "load", watched)
    for stage in ("fit", "validate", "predict"):
        CIFAR10DataModule(Shapes(100), val_size=20).setup(stage)
    assert read == ["train"] * 3
    CIFAR10DataModule(Shapes(100), val_size=20).setup("test")
    assert read[3:] == ["test"]
    article = CIFAR10DataModule(Shapes(100), val_size=0)
    article.setup("fit")
    assert read[4:] == ["train", "test"]
    assert len(article.val_dataloader()) == 1
    assert article.val_dataloader().images_per_epoch == 20


def test_flip_averaging_is_told_apart(command: Command, run: Path) -> None:
    assert command("test").status == 0
    single = json.loads((run / "test_report.json").read_text())
    ended = command("test", "--model.flip_averaging", "true")
    assert ended.status == 0, ended.stderr
    assert "averaged over each image and its mirror image" in ended.stdout
    averaged = json.loads((run / "test_report_flip_averaged.json").read_text())
    assert averaged["flip_averaged"]
    assert not single["flip_averaged"]
    tags = events(run).Tags()["scalars"]
    assert {"test/acc", "test/acc_flip_averaged"} <= set(tags)
    assert json.loads((run / "test_report.json").read_text()) == single
    ckpt = next(run.glob("checkpoints/epoch=*"))
    model = ImageClassifier.load_from_checkpoint(ckpt)
    images, labels = Shapes(300).load("test")
    pixels: Tensor = (images.float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = (model(pixels) + model(pixels.flip(3))) / 2
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    assert averaged["accuracy"] == pytest.approx(right)
    assert single["accuracy"] != averaged["accuracy"]
    refused = command("fit", *TINY, "--model.flip_averaging", "true")
    assert refused.status == 2
    assert "--model.flip_averaging is for validate, test and predict" in one_sentence(refused)


# --- a report is of the whole test split, of the run's best, or says so ---


def quoted(command: Command, column: str = "test") -> str:
    """What ``compare`` says of the only run in a column; nothing if it has none."""
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    header, _, row = (line.strip("|").split("|") for line in ended.stdout.splitlines()[:3])
    return row[[name.strip() for name in header].index(column)].strip()


def fit_folder(command: Command, root: Path, *flags: str) -> None:
    """Train for two epochs on a folder of images of two shades, which are written."""
    write_shades(root)
    source = ("--data.source", "ImageFolder", "--data.source.root", str(root))
    few = ("--data.val_size", "10", "--trainer.max_epochs", "2")
    ended = command("fit", *TINY, *source, *few, *flags)
    assert ended.status == 0, ended.stderr


def write_shades(root: Path, names: tuple[str, str] = ("dark", "light"), test: int = 5) -> None:
    for split, count in (("train", 30), ("test", test)):
        for shade, name in enumerate(names):
            write_images(root / split / name, count, 200 * shade)


@pytest.mark.parametrize(
    "part", [("--trainer.fast_dev_run", "1"), ("--trainer.limit_test_batches", "1")]
)
@pytest.mark.parametrize("flipped", ["false", "true"])
def test_a_part_of_the_test_split_is_no_test(
    part: tuple[str, str], flipped: str, command: Command, run: Path
) -> None:
    before = files(run)
    ended = command("test", "--model.flip_averaging", flipped, *part)
    assert ended.status == 0, ended.stderr
    assert "32 images" in ended.stdout
    assert "no report is written: this was a trial" in ended.stdout
    assert files(run) == before
    assert quoted(command) == quoted(command, "test, flip averaged") == ""


def test_a_report_says_what_it_is_of(command: Command, run: Path) -> None:
    assert command("test").status == 0
    report = json.loads((run / "test_report.json").read_text())
    (best,) = run.glob("checkpoints/epoch=*")
    assert Path(report["checkpoint"]).name == best.name
    assert report["global_step"] == 8 * report["epochs"]
    assert best.name.startswith(f"epoch={report['epochs'] - 1}-")
    fingerprint = Shapes(300).load("test").fingerprint
    assert report["data"] == {"source": "Shapes", "fingerprint": fingerprint}
    assert report["of_the_run"] is True
    assert json.loads((run / "test_split.json").read_text())["fingerprint"] == fingerprint


@pytest.mark.parametrize(
    ("other", "label"),
    [
        (("--ckpt_path", "last"), "-last"),
        (("--data.source.size", "250"), f"-Shapes-{Shapes(250).load('test').fingerprint[-8:]}"),
    ],
)
@pytest.mark.parametrize("kind", ["", "_flip_averaged"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_what_is_not_the_run_s_own_has_another_name(
    other: tuple[str, str], label: str, kind: str, first: bool, command: Command, run: Path
) -> None:
    flipped = ("--model.flip_averaging", "true" if kind else "false")
    if not first:
        assert command("test", *flipped).status == 0
    before = files(run)
    column = "test, flip averaged" if kind else "test"
    figure = quoted(command, column)
    assert bool(figure) is not first
    ended = command("test", *flipped, *other)
    assert ended.status == 0, ended.stderr
    assert "not the run's own figure" in ended.stdout
    new = {path.name for path in files(run).keys() - before.keys()} - {"test_split.json"}
    names = ("report{}.json", "confusion_matrix{}.png", "calibration{}.png")
    assert new == {f"test_{name.format(kind + label)}" for name in names}
    assert before.items() <= files(run).items()
    assert json.loads((run / f"test_report{kind}{label}.json").read_text())["of_the_run"] is False
    assert quoted(command, column) == figure


def test_the_run_s_images_may_move_and_no_others_take_their_place(
    command: Command, tmp_path: Path
) -> None:
    fit_folder(command, tmp_path / "images")
    run = tmp_path / "lightning_logs/version_0"
    write_shades(tmp_path / "other", test=7)
    (tmp_path / "other/train/dark/0.png").unlink()
    elsewhere = ("test", "--data.source.root")
    # the first test, but of another data set, is not the one that counts
    assert command(*elsewhere, "other").status == 0
    assert not (run / "test_report.json").exists()
    assert quoted(command) == ""
    (tmp_path / "images").rename(tmp_path / "moved")
    assert command(*elsewhere, "moved").status == 0
    figure = quoted(command)
    assert figure.endswith(" %")
    report = files(run)[run / "test_report.json"]
    # from here on the test images themselves are known
    shutil.rmtree(tmp_path / "moved/train/dark")
    shutil.copytree(tmp_path / "moved/test/dark", tmp_path / "moved/train/dark")
    assert "not the run's own" not in command(*elsewhere, "moved").stdout
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "moved/test/light/3.png")
    ended = command(*elsewhere, "moved")
    assert "is not known to be the run's own test split" in ended.stdout
    assert files(run)[run / "test_report.json"] == report
    assert quoted(command) == figure


def test_a_report_of_a_best_that_was_superseded_is_not_quoted(command: Command, run: Path) -> None:
    assert command("test").status == 0
    (best,) = run.glob("checkpoints/epoch=*")
    assert quoted(command) != ""
    best.rename(best.with_name("epoch=9-val_acc=0.9900.ckpt"))
    ended = command("compare")
    assert f"it is of {best.name}, and the best checkpoint is epoch=9-" in ended.stderr
    assert quoted(command) == ""


@pytest.mark.parametrize("kept", [True, False])
def test_a_report_of_an_earlier_version(kept: bool, command: Command, run: Path) -> None:
    """It names its checkpoint, of which only the name may be left."""
    (best,) = run.glob("checkpoints/epoch=*")
    report = {"checkpoint": str(best), "accuracy": 0.125}
    (run / "test_report.json").write_text(json.dumps(report))
    if not kept:
        shutil.rmtree(run / "checkpoints")
    assert quoted(command) == "12.50 %"
    report["checkpoint"] = str(best.with_name("last.ckpt"))
    (run / "test_report.json").write_text(json.dumps(report))
    assert quoted(command) == ""


def test_a_checkpoint_outside_a_run(command: Command, run: Path, tmp_path: Path) -> None:
    (best,) = run.glob("checkpoints/epoch=*")
    shutil.copy(best, tmp_path / "mine.ckpt")
    ended = command("test", "--ckpt_path", "mine.ckpt")
    assert ended.status == 0, ended.stderr
    assert "mine.ckpt is in no run" in ended.stdout
    assert (tmp_path / "test_report-mine.json").exists()
    assert not (tmp_path / "test_report.json").exists()


def test_a_label_means_the_class_that_it_meant(command: Command, tmp_path: Path) -> None:
    fit_folder(command, tmp_path / "images")
    run = tmp_path / "lightning_logs/version_0"
    write_shades(tmp_path / "other", ("dark", "zlight"))
    for split in ("train", "test"):
        (tmp_path / "images" / split / "light").rename(tmp_path / "images" / split / "pale")
    before = files(run)
    for arguments, now in [
        (("test", "--data.source.root", "other"), "zlight"),
        (("test",), "pale"),
        (("validate",), "pale"),
        (("predict",), "pale"),
        (("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"), "pale"),
    ]:
        ended = command(*arguments)
        assert ended.status == 1, ended
        sentence = one_sentence(ended)
        assert "The classes of the data are not those that lightning_logs/version_0" in sentence
        assert f"({now} among them alone and light missing)" in sentence
        assert files(run) == before
