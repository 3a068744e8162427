"""The weights that a new run starts from: of a checkpoint, or of a plain state dict."""

import hashlib
import json
import logging
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cifar_lightning.errors import UserError, local_path

log = logging.getLogger(__name__)

# What torch puts between a network's names when it compiles or wraps the network, or parts of it.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_USUAL_PREFIXES = ("", "net.")  # none, and ours


class Taken(NamedTuple):
    """What a network has taken over from a file."""

    path: str
    sha256: str
    """Of the file."""
    prefix: str
    """What stands in front of the network's own names there."""
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
        if self.prefix not in _USUAL_PREFIXES:
            text += f", where they are called {self.prefix}…"
        text += f"; fresh: {_some(self.fresh)}" if self.fresh else ""
        return text + (f"; not used: {_some(self.unused)}" if self.unused else "")


def start_from(net: nn.Module, path: str, class_names: list[str] | None = None) -> Taken:
    """Give a network the weights of a file wherever name and shape are the same, and say so.

    Args:
        net: the network; what it does not find in the file stays as it is.
        path: a checkpoint of this project or of another, what ``torch.save`` has made of a
            ``state_dict``, or a .safetensors file. Whatever stands in front of all of the network's
            names there does not matter.
        class_names: of the images at hand. If the file says that it tells other classes apart, the
            last layer is not taken over even if its shape is the same.

    Raises:
        UserError: the file cannot be read, or nothing in it fits.
    """
    file = local_path(path, "--model.weights")
    theirs, before = _read(file)
    own = net.state_dict()
    prefix, theirs = _as_called_here(theirs, own)
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
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    unused = [name for name in theirs if name not in own]
    result = Taken(path, digest, prefix, [*taken], fresh, unused)
    log.info("%s", result)
    return result


def _as_called_here(
    theirs: dict[str, Tensor], own: dict[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """What stands in front of a network's names in a file, and the weights that it stands in front
    of, without it. Of several prefixes (an average beside what was trained) the one under which
    most fits, and of these the shortest."""
    theirs = {_WRAPPERS.sub("", name): weight for name, weight in theirs.items()}
    prefixes = {"", "net."} | {
        name.removesuffix(one) for name in theirs for one in own if name.endswith(f".{one}")
    }

    def fits(prefix: str) -> tuple[int, int]:
        there = [name for name in own if prefix + name in theirs]
        return sum(theirs[prefix + name].shape == own[name].shape for name in there), len(there)

    prefix = max(sorted(prefixes, key=lambda p: (len(p), p)), key=fits)
    return prefix, {n.removeprefix(prefix): w for n, w in theirs.items() if n.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """The weights in a file by their names there, and the names of their classes if it has them."""
    option = f"--model.weights {path}"
    if not path.is_file():
        raise UserError(f"{option}: there is no such file.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
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
    content = content if isinstance(content, dict) else {}
    ours = content.get("cifar_lightning")
    return _state_dict(content, path), ours.get("class_names") if isinstance(ours, dict) else None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """Likewise, of a file that ``export`` has written, or of any other of its kind."""
    option = f"--model.weights {path}"
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UserError(f"{option} needs {error.name}: pip install -e '.[export]'.") from error
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            names = file.keys()  # it cannot be gone through by itself
            weights = {name: file.get_tensor(name) for name in names}
        classes = json.loads(about.get("class_names", "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{option} cannot be read ({error}).") from error
    return weights, classes if isinstance(classes, list) else None


def _state_dict(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"--model.weights {path} holds no weights: give a checkpoint or a saved "
                        "state_dict.")  # fmt: skip
    return weights


def _size(weight: Tensor) -> str:
    return "×".join(map(str, weight.shape)) or "a number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
