"""What a trained network is used for: the report, predictions on pictures, model files."""

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import TINY, Command
from PIL import Image
from torch.nn import functional as F

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes

RUN = Path("lightning_logs/version_0")


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    """The folder of a trained run."""
    assert command("fit", *TINY).status == 0
    return tmp_path / RUN


def probabilities_of(run: Path, images: torch.Tensor) -> torch.Tensor:
    """By the best checkpoint of a run; images uint8 N×H×W×3."""
    best = next((run / "checkpoints").glob("epoch=*"))
    classifier = ImageClassifier.load_from_checkpoint(best, map_location="cpu").eval()
    with torch.no_grad():
        logits: torch.Tensor = classifier(CIFAR10DataModule(Shapes(50)).normalise(images))
    return logits.softmax(dim=1)


def test_report(command: Command, run: Path) -> None:
    ended = command("test")
    assert ended.status == 0, ended.stderr
    report = json.loads((run / "test_report.json").read_text())
    images, labels = Shapes(300).load("test")
    probabilities = probabilities_of(run, images)
    right = probabilities.argmax(1) == labels
    assert report["images"] == 60
    assert report["accuracy"] == pytest.approx(right.float().mean().item())
    assert report["loss"] == pytest.approx(F.nll_loss(probabilities.log(), labels).item())
    assert np.sum(report["confusion_matrix"]) == 60
    assert np.trace(report["confusion_matrix"]) == right.sum()
    star = Shapes(300).class_names.index("star")
    recall = right[labels == star].float().mean().item()
    assert report["classes"]["star"]["recall"] == pytest.approx(recall)
    assert report["classes"]["star"]["images"] == 6
    low, high = report["accuracy_95"]
    assert low < report["accuracy"] < high
    assert f"{report['accuracy']:.2%}  (95 % interval {low:.2%} to {high:.2%}" in ended.stdout
    assert len([line for line in ended.stdout.splitlines() if line.startswith("star")]) == 1
    for name in ("test_confusion_matrix.png", "test_calibration.png"):
        assert Image.open(run / name).width == 700


def test_results_of_test_outlive_the_run_going_on(command: Command, run: Path) -> None:
    assert command("test").status == 0
    assert command("test").status == 0
    assert len(list(run.glob("*.test"))) == 1
    assert command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4").status == 0
    assert len(list(run.glob("*.test"))) == 1


def pictures(folder: Path) -> dict[str, Image.Image]:
    numbers = np.random.default_rng(0)
    made = {
        "grey.png": Image.fromarray(numbers.integers(0, 256, (40, 60), dtype=np.uint8)),
        "rgba.png": Image.fromarray(numbers.integers(0, 256, (32, 32, 4), dtype=np.uint8)),
        "one.png": Image.new("RGB", (1, 1), (200, 10, 10)),
        "large.png": Image.fromarray(
            np.kron(
                numbers.integers(0, 256, (3, 4, 3), dtype=np.uint8),
                np.ones((1000, 1000, 1), dtype=np.uint8),
            )
        ),
        "exact.png": Image.fromarray(Shapes(50).load("train").images[0].numpy()),
    }
    (folder / "pictures/below").mkdir(parents=True)
    for name, picture in made.items():
        picture.save(folder / "pictures" / ("below" if name == "one.png" else "") / name)
    (folder / "pictures/.hidden").write_text("no picture")
    (folder / "pictures/Thumbs.db").write_text("no picture")
    return made


def test_predict_needs_the_checkpoint_alone(command: Command, run: Path, tmp_path: Path) -> None:
    made = pictures(tmp_path)
    moved = tmp_path / "elsewhere.ckpt"
    next((run / "checkpoints").glob("epoch=*")).rename(moved)
    # a source whose images would not be found, and flags that are not repeated
    content = torch.load(moved, weights_only=True)
    source = {"class_path": "ImageFolder", "init_args": {"root": "/nowhere", "resize": None}}
    content["cifar_lightning"]["config"]["data"]["source"] = source
    torch.save(content, moved)
    ended = command(
        "predict", "--ckpt_path", str(moved), "--data.images", "pictures", "pictures/exact.png"
    )
    assert ended.status == 0, ended.stderr
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["below/one.png", "exact.png", "grey.png", "large.png", "rgba.png", "exact.png"]
    assert [row["image"] for row in rows] == [f"pictures/{name}" for name in names]
    classes = Shapes(50).class_names
    (run / "checkpoints/epoch=0.ckpt").write_bytes(moved.read_bytes())
    exact = torch.from_numpy(np.array(made["exact.png"]))[None]
    one = torch.tensor([200, 10, 10], dtype=torch.uint8).expand(1, 32, 32, 3)
    for row, images in ((rows[1], exact), (rows[5], exact), (rows[0], one)):
        expected = probabilities_of(run, images)[0]
        values = torch.tensor([float(row[name]) for name in classes])
        assert torch.allclose(values, expected, atol=1e-6)
        assert row["prediction"] == classes[int(expected.argmax())]
    lines = ended.stdout.splitlines()
    assert len(lines) == 6
    assert all(len(line.split("%")) == 4 for line in lines)
    assert Image.open(tmp_path / "predictions.png").height > 100


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nowhere", "there is no such file"), ("empty", "no pictures"), ("text.png", "as an image")],
)
def test_pictures_that_are_none(
    name: str, sentence: str, command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    ended = command("predict", "--data.images", name)
    assert ended.status == 1
    assert name in ended.stderr
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (run / "predictions.csv").exists()


def test_onnx(command: Command, run: Path, tmp_path: Path) -> None:
    ended = command("export", "--to", "model.onnx")
    assert ended.status == 0, ended.stderr
    assert "checked on 100 images: probabilities within" in ended.stdout
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = Shapes(500).load("train").images[:100]
    pixels = images.permute(0, 3, 1, 2).float().numpy() / 255
    answer = np.asarray(session.run(None, {"images": pixels})[0])
    assert np.abs(answer - probabilities_of(run, images).numpy()).max() < 1e-5
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(Shapes(50).class_names)
    assert about["training_images"].startswith("300 images, crc32")


def test_pt2_and_safetensors(command: Command, run: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    images = Shapes(500).load("train").images[:7]
    expected = probabilities_of(run, images)
    assert command("export", "--to", "model.pt2").status == 0
    about = {"about.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=about)
    answer = program.module()(images.permute(0, 3, 1, 2).float() / 255)
    assert torch.allclose(answer, expected, atol=1e-6)
    assert "class_names" in json.loads(about["about.json"])
    assert command("export", "--to", "model.safetensors", "--ckpt_path", "last").status == 0
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.get_tensor("net.layers.2.weight").shape == (10, 192)
        assert file.get_tensor("mean").flatten().tolist() == [0.5, 0.5, 0.5]
        assert "star" in file.metadata()["class_names"]


def test_a_file_that_differs_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_lightning.commands import export
    from cifar_lightning.errors import UserError

    # PyTorch itself is off by more than is let pass
    forward = export.Deployed.forward
    monkeypatch.setattr(export.Deployed, "forward", lambda self, x: forward(self, x) + self.off)
    monkeypatch.setattr(export.Deployed, "off", 0.0, raising=False)
    to_onnx = export._FORMATS[".onnx"]

    def off_by_a_little(*arguments: object) -> float:
        monkeypatch.setattr(export.Deployed, "off", 2e-4)
        return to_onnx(*arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(export._FORMATS, ".onnx", off_by_a_little)
    with pytest.raises(UserError, match=r"differ from PyTorch's by up to 2\.0e-04"):
        export.export(
            ["--to", str(tmp_path / "m.onnx"), "--logs", str(tmp_path / "lightning_logs")]
        )
    assert not list(tmp_path.glob("*m.onnx*"))


def test_export_overwrites_nothing(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    ended = command("export", "--to", "model.onnx")
    assert (ended.status, "there is a file of that name" in ended.stderr) == (2, True)
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert command("export", "--to", "model.bin").status == 2
    assert command("export").status == 2
    ended = command("export", "--to", "nowhere/model.onnx")
    assert (ended.status, "no folder" in ended.stderr) == (2, True)
