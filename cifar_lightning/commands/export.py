"""``export``: write a checkpoint as a model file that runs elsewhere, and check the file."""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lightning.commands.names import CommandParser, check_target, path
from cifar_lightning.commands.predictions import find_pictures, load_pictures
from cifar_lightning.commands.trained import load_trained
from cifar_lightning.data import Shapes
from cifar_lightning.errors import UsageError, UserError, counted
from cifar_lightning.runs.files import write_then_rename
from cifar_lightning.runs.folders import LoadedCheckpoint, find_checkpoint
from cifar_lightning.runs.provenance import git_state

TOLERANCE = 1e-4
"""The largest difference accepted between a probability from the file and PyTorch's."""
_CHECKED = 100  # images
_Model = Callable[[Tensor], Any]  # probabilities of images, as the file that was written has them


class Deployed(nn.Module):
    """A network with normalisation before it and softmax after it.

    Maps images, float N×3×H×W, RGB from 0 to 1, to probabilities of the classes, float N×K.
    """

    input = "float32 N×3×H×W, RGB from 0 to 1"
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self.net((images - self.mean) / self.std).softmax(dim=1)
        return probabilities


class DeployedOnPixels(Deployed):
    """Likewise, of images as a decoder gives them: uint8 N×H×W×3, RGB from 0 to 255."""

    input = "uint8 N×H×W×3, RGB from 0 to 255"

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 3, 1, 2).float() / 255)


def export(argv: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UsageError: no file can be written in that format or under that name.
        UserError: there is no such checkpoint, or the file does not compute what PyTorch does.
    """
    parser = CommandParser("export")
    parser.add_argument("--ckpt_path", default="best", help="best, last or a path (best)")
    parser.add_argument(
        "--to", type=path, required=True, metavar="FILE", help=f"ends in {', '.join(_FORMATS)}"
    )
    parser.add_argument(
        "--input",
        choices=("float32", "uint8"),
        default="float32",
        help="what the model takes: float32 N×3×H×W from 0 to 1, or uint8 N×H×W×3 as pictures come "
        "from a decoder (float32)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        help="pictures to check the file with; by default drawn ones",
    )
    parser.add_argument(
        "--logs", type=path, help="where the runs are, for best and last (lightning_logs)"
    )
    asked = parser.parse_args(argv)
    if asked.logs is not None and asked.ckpt_path not in ("best", "last"):
        raise UsageError(f"--logs {asked.logs}: --ckpt_path {asked.ckpt_path} says it already.")
    target: Path = asked.to
    check_target(target, _FORMATS)
    if asked.input == "uint8" and target.suffix == ".safetensors":
        raise UsageError(f"--input uint8: {target} holds weights alone; take .onnx or .pt2.")
    found = find_checkpoint(asked.ckpt_path, asked.logs or Path("lightning_logs"))
    classifier, config, _ = load_trained(found)
    images = _images(asked.images, found.image_side)
    if asked.input == "float32":
        images = images.permute(0, 3, 1, 2).float() / 255
    kind = DeployedOnPixels if asked.input == "uint8" else Deployed
    model = kind(classifier.net, config.mean, config.std).eval()
    about = {"input": model.input, **_about(found)}
    with torch.no_grad():
        expected = model(images)

    try:
        with write_then_rename(target) as part:
            written = _FORMATS[target.suffix](model, images[:2], about, part)
            difference = _largest_difference(written, images, expected)
            if not difference <= TOLERANCE:
                raise UserError(
                    f"{target} is not written: its probabilities differ from PyTorch's by up to "
                    f"{difference:.1e}, more than {TOLERANCE:.0e}."
                )
    except ImportError as error:
        raise UserError(
            f"{target.suffix} needs {error.name}: pip install -e '.[export]'."
        ) from error
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror or error}).") from error
    print(
        f"{target} ({target.stat().st_size / 1e6:.1f} MB) from {found.path}\n"
        f"checked on {counted(len(images), 'image')}: probabilities within {difference:.1e} of "
        "PyTorch's"
    )


def _images(paths: Sequence[str] | None, side: int) -> Tensor:
    """uint8 N×side×side×3."""
    if paths is None:
        pixels = Shapes(_CHECKED * 5).load("test").images
        scaled = nn.functional.interpolate(pixels.permute(0, 3, 1, 2), size=(side, side))
        return scaled.permute(0, 2, 3, 1).contiguous()
    pixels, _ = load_pictures(find_pictures(paths, "--images"), side)
    return pixels


def _about(found: LoadedCheckpoint) -> dict[str, str]:
    """The metadata of the file: names to texts, as all three formats take them."""
    ours = found.ours
    git = git_state()
    return {
        "class_names": json.dumps(ours["class_names"]),
        "output": "probabilities, float32 N×K",
        "checkpoint": str(found.path),
        "epoch": str(found.content["epoch"]),
        "global_step": str(found.content["global_step"]),
        "training_images": str(ours["data"]),
        "config": json.dumps(ours["config"], sort_keys=True),
        "git_commit": git["commit"] if git else "",
        "torch": torch.__version__,
    }


def _to_onnx(model: nn.Module, example: Tensor, about: dict[str, str], path: Path) -> _Model:
    import onnx
    import onnxruntime

    program = _quietly(
        lambda: torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    )
    proto = program.model_proto
    for name, text in about.items():
        proto.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"images": batch.numpy()})[0]))

    return run


def _to_pt2(model: nn.Module, example: Tensor, about: dict[str, str], path: Path) -> _Model:
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"about.json": json.dumps(about)})
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _to_safetensors(model: nn.Module, example: Tensor, about: dict[str, str], path: Path) -> _Model:
    """Weights alone, named as in ``Deployed``; the network's code is needed to use them."""
    from safetensors.torch import load_file, save

    tensors = {name: values.contiguous() for name, values in model.state_dict().items()}
    path.write_bytes(save(tensors, metadata=about))
    fresh = copy.deepcopy(model)
    with torch.no_grad():
        for values in fresh.state_dict().values():
            values.zero_()
    fresh.load_state_dict(load_file(path))
    return fresh


def _largest_difference(run: _Model, images: Tensor, expected: Tensor) -> float:
    with torch.no_grad():
        # one by one and all at once: the size of a batch must not matter
        alone = torch.cat([run(image[None]) for image in images[:3]])
        together = run(images)
    apart = (together - expected).abs().max(), (alone - expected[:3]).abs().max()
    return max(float(difference) for difference in apart)


def _quietly(call: Callable[[], Any]) -> Any:
    """torch.onnx counts its steps on standard output."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


_FORMATS = {".onnx": _to_onnx, ".pt2": _to_pt2, ".safetensors": _to_safetensors}
