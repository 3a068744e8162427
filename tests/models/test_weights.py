"""A new run starts from what fits of a file, and says in one line what does and what does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import RUN, TINY, last_state, net_weights, one_sentence
from program import Command
from torch import Tensor, nn

from cifar_lightning.errors import UserError
from cifar_lightning.models.weights import start_from


def network(classes: int = 4, width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, classes))


def named(prefix: str, net: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: weight for name, weight in net.state_dict().items()}


def equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "prefix",
    ["", "net.", "module.", "model.", "module.net.", "net._orig_mod.", "_orig_mod.module.",
     "_forward_module.net.", "backbone.encoder.", "net._fsdp_wrapped_module."],
)  # fmt: skip
def test_whatever_stands_in_front(prefix: str, tmp_path: Path) -> None:
    theirs, path = network(), tmp_path / "theirs.pt"
    other = {"optimizer.0.weight": torch.zeros(3), "loss.temperature": torch.ones(())}
    torch.save({"state_dict": {**other, **named(prefix, theirs)}}, path)
    net = network()
    taken = start_from(net, str(path))
    assert equal(net, theirs)
    assert str(taken).startswith(f"4 of 4 weights taken over from {path}")
    assert ("backbone.encoder.…" in str(taken)) is (prefix == "backbone.encoder.")


def test_parts_that_were_compiled_or_wrapped(tmp_path: Path) -> None:
    theirs, path = network(), tmp_path / "theirs.pt"
    parts = theirs.state_dict()
    torch.save({f"net.{name[0]}._orig_mod.{name[2:]}": w for name, w in parts.items()}, path)
    net = network()
    start_from(net, str(path))
    assert equal(net, theirs)


def test_of_two_networks_the_one_that_fits(tmp_path: Path) -> None:
    student, teacher, path = network(), network(width=5), tmp_path / "two.pt"
    torch.save({**named("a.", teacher), **named("student.", student)}, path)
    net = network()
    start_from(net, str(path))
    assert equal(net, student)


def entry(names: list[str]) -> dict[str, Any]:
    return {"cifar_lightning": {"class_names": names}}


def test_other_classes_start_fresh(tmp_path: Path) -> None:
    theirs, path = network(), str(tmp_path / "theirs.pt")
    torch.save({"state_dict": named("net.", theirs), **entry(["a", "b", "c", "d"])}, path)
    before, net = network().state_dict(), network()
    net.load_state_dict(before)
    taken = start_from(net, path, ["a", "b", "c", "e"])
    assert taken.names == ["0.weight", "0.bias"]
    assert taken.fresh == ["2.weight (other classes)", "2.bias (other classes)"]
    assert torch.equal(net.state_dict()["2.weight"], before["2.weight"])
    assert start_from(network(), path, ["a", "b", "c", "d"]).fresh == []
    taken = start_from(network(7), path, list("abcdefg"))
    assert taken.fresh == ["2.weight (7×3, there 4×3)", "2.bias (7, there 4)"]
    with pytest.raises(UserError, match="nothing in it fits Sequential"):
        start_from(nn.Sequential(nn.Conv2d(3, 4, 5)), path)


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    theirs, path = network(), tmp_path / "theirs.safetensors"
    weights = {**named("net.", theirs), "mean": torch.zeros(3, 1, 1)}
    safetensors.save_file(weights, path, metadata={"class_names": json.dumps(["a", "b", "c", "d"])})
    net = network()
    assert start_from(net, str(path)).fresh == []
    assert equal(net, theirs)
    taken = start_from(network(), str(path), ["a", "b", "c", "e"])
    assert taken.fresh == ["2.weight (other classes)", "2.bias (other classes)"]


def test_on_the_command_line(command: Command, run: Path, tmp_path: Path) -> None:
    still = ("--trainer.max_steps", "1", "--model.optimizer.lr", "1e-30")
    given = {
        "best": "lightning_logs/version_0/checkpoints/epoch=",
        "lightning_logs/version_0/checkpoints/last.ckpt": "version_0/checkpoints/last.ckpt",
        str(run): "version_0/checkpoints/epoch=",
        "~/mine.pt": "~/mine.pt",
    }
    torch.save(last_state(run)["state_dict"], tmp_path / "mine.pt")
    for number, (name, path) in enumerate(given.items(), start=1):
        ended = command("fit", *TINY, *still, "--model.weights", name, HOME=str(tmp_path))
        assert ended.status == 0, ended
        (line,) = [line for line in ended.stderr.splitlines() if "taken over" in line]
        assert line.startswith("2 of 2 weights taken over from ")
        assert path in line
        new = tmp_path / f"lightning_logs/version_{number}"
        assert path in (new / "config.yaml").read_text()
    assert torch.equal(*(net_weights(one)["layers.2.bias"] for one in (run, new)))
    # the run that goes on has weights of its own, and needs the file no more
    (tmp_path / "mine.pt").unlink()
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_steps", "2")
    assert ended.status == 0, ended
    assert "taken over" not in ended.stderr
    ended = command("fit", "--ckpt_path", "last", "--model.weights", "best")
    assert ended.status == 2
    assert "--model.weights" in one_sentence(ended)


def test_what_export_has_written(command: Command, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    assert command("export", "--to", "mine.safetensors").status == 0
    flags = ("--model.weights", "mine.safetensors", "--data.source.seed", "3")
    ended = command("fit", *TINY, "--trainer.max_steps", "1", *flags)
    assert ended.status == 0, ended
    assert "2 of 2 weights taken over from mine.safetensors\n" in ended.stderr
    assert (tmp_path / RUN).parent.joinpath("version_1/checkpoints/last.ckpt").exists()
