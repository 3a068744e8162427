"""``export``: model files that give what the checkpoint gives."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import one_sentence, probabilities_of
from program import Command

from cifar_lightning.data import Shapes


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


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_pixels_as_a_decoder_gives_them(
    name: str, command: Command, run: Path, tmp_path: Path
) -> None:
    ended = command("export", "--to", name, "--input", "uint8")
    assert ended.status == 0, ended.stderr
    images = Shapes(500).load("test").images[:7]
    if name.endswith("onnx"):
        session = onnxruntime.InferenceSession(str(tmp_path / name))
        (given,) = session.get_inputs()
        assert (given.type, given.shape[1:]) == ("tensor(uint8)", [32, 32, 3])
        assert "uint8" in session.get_modelmeta().custom_metadata_map["input"]
        answer = torch.tensor(np.asarray(session.run(None, {"images": images.numpy()})[0]))
    else:
        answer = torch.export.load(tmp_path / name).module()(images)
    assert torch.allclose(answer, probabilities_of(run, images), atol=1e-5)


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

    def off_by_a_little(*arguments: object) -> object:
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
    assert ended.status == 2
    assert "there is a file of that name" in one_sentence(ended)
    assert (tmp_path / "model.onnx").read_text() == "mine"
    for arguments, part in (
        (("--to", "model.bin"), "--to model.bin"),
        ((), "--to"),
        (("--to", "x.safetensors", "--input", "uint8"), "--input uint8: x.safetensors"),
        (("--to", "x.onnx", "--input", "int8"), "--input"),
        (("--to", "nowhere/model.onnx"), "no folder"),
    ):
        ended = command("export", *arguments)
        assert ended.status == 2
        assert part in one_sentence(ended)
    for name, status in (("nope.png", 1), ("http://example.org/nope.png", 2)):
        ended = command("export", "--to", "x.onnx", "--images", name)
        assert ended.status == status
        assert one_sentence(ended).startswith(f"--images {name}: ")
