"""The weights that a new run starts from: of a checkpoint, or of a plain state dict."""

import hashlib
import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cifar_lightning.errors import UserError

log = logging.getLogger(__name__)

# What training tools put in front of a network's own names: ours, DataParallel, others.
_PREFIXES = ("net.", "", "module.", "model.")


class Taken(NamedTuple):
    """What a network has taken over from a file."""

    path: str
    sha256: str
    """Of the file."""
    names: list[str]
    """Of the weights that were taken over."""
    fresh: list[str]
    """Of those that were not, and why, as one says it."""
    unused: list[str]
    """Of the file's weights that the network has no place for."""

    def facts(self) -> dict[str, Any]:
        """For ``card.json``: file, sha256, how many were taken, and the names of those that were
        not or have no place."""
        return {
            "file": self.path,
            "sha256": self.sha256,
            "taken": len(self.names),
            "fresh": self.fresh,
            "unused": self.unused,
        }

    def __str__(self) -> str:
        of = len(self.names) + len(self.fresh)
        text = f"{len(self.names)} of {of} weights taken over from {self.path}"
        text += f"; fresh: {_some(self.fresh)}" if self.fresh else ""
        return text + (f"; not used: {_some(self.unused)}" if self.unused else "")


def start_from(net: nn.Module, path: str, class_names: list[str] | None = None) -> Taken:
    """Give a network the weights of a file wherever name and shape are the same, and say so.

    Args:
        net: the network; what it does not find in the file stays as it is.
        path: a checkpoint of this project, or what ``torch.save`` has made of a ``state_dict``.
        class_names: of the images at hand. If the file says that it tells other classes apart, the
            last layer is not taken over even if its shape is the same.

    Raises:
        UserError: the file cannot be read, or nothing in it fits.
    """
    content = _read(Path(path).expanduser())
    theirs = _state_dict(content, path)
    own = net.state_dict()
    prefix = max(_PREFIXES, key=lambda p: sum(p + name in theirs for name in own))
    theirs = {n.removeprefix(prefix): w for n, w in theirs.items() if n.startswith(prefix)}
    before = content.get("cifar_lightning", {}).get("class_names")
    other_classes = None not in (before, class_names) and before != class_names
    last = [*own][-1].rpartition(".")[0] if own else ""
    taken, fresh = {}, []
    for name, weight in own.items():
        if name not in theirs:
            fresh.append(f"{name} (not in it)")
        elif theirs[name].shape != weight.shape:
            fresh.append(f"{name} ({_size(weight)}, there {_size(theirs[name])})")
        elif other_classes and name.rpartition(".")[0] == last:
            fresh.append(f"{name} (other classes)")
        else:
            taken[name] = theirs[name]
    if not taken:
        raise UserError(
            f"--model.weights {path}: nothing in it fits {type(net).__name__}, whose weights are "
            f"{_some([f'{name} {_size(weight)}' for name, weight in own.items()])}; there are "
            f"{_some([f'{name} {_size(weight)}' for name, weight in theirs.items()])}."
        )
    net.load_state_dict(taken, strict=False)
    with Path(path).expanduser().open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    result = Taken(path, digest, [*taken], fresh, [name for name in theirs if name not in own])
    log.info("%s", result)
    return result


def _read(path: Path) -> dict[str, Any]:
    option = f"--model.weights {path}"
    if not path.is_file():
        raise UserError(f"{option}: there is no such file.")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch.load does not look at its checksums
                if (damaged := archive.testzip()) is not None:
                    raise UserError(f"{option} is damaged ({damaged} fails its checksum).")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{option} holds no weights, or more than tensors and plain values, which could run "
            "code: save them with torch.save(net.state_dict(), PATH)."
        ) from error
    except (RuntimeError, EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{option} cannot be read ({reason}).") from error
    return content if isinstance(content, dict) else {}


def _state_dict(content: dict[str, Any], path: str) -> dict[str, Tensor]:
    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"--model.weights {path} holds no weights: give a checkpoint or a saved "
                        "state_dict.")  # fmt: skip
    return weights


def _size(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape)) or "a number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
