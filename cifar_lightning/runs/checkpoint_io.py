"""Writing checkpoints durably, and reading them without trusting them."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from cifar_lightning.errors import UserError
from cifar_lightning.runs.files import write_then_rename

KEY = "cifar_lightning"
"""The entry of a checkpoint that holds what this project adds to Lightning's."""


class DurableCheckpointIO(CheckpointIO):
    """Replaces a checkpoint only by one that is whole and on disk.

    Lightning's own goes through ``$TMPDIR`` without a flush, and copies over the good file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Raises OSError if the disk refuses; an older file of that name is kept."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with write_then_rename(path) as part, part.open("wb") as file:
            file.write(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint onto the CPU, running no code from it.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, or would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint.")
    try:
        # torch.load does not look at the archive's own checksums
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"{path} is damaged ({damaged} fails its checksum).")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            began_well = file.read(4) == b"PK\x03\x04"
        what = "is cut off or damaged" if began_well else "is not a checkpoint"
        raise UserError(f"{path} {what}.") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values and is refused, since reading it "
            "could run code from it."
        ) from error
    except (RuntimeError, EOFError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "loops"} <= checkpoint.keys():
        raise UserError(f"{path} is not a checkpoint of a PyTorch Lightning run.")
    for name, kind in _ENTRIES.items():
        if name in (found := _named(checkpoint)) and not isinstance(found[name], kind):
            raise UserError(
                f"{path} is damaged, or of another program: its {name} is no {_A[kind]}."
            )
    return checkpoint


def _named(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The entries of a checkpoint, and those of this project's own; what is None is not there."""
    ours = checkpoint.get(KEY)
    inner = {f"{KEY}.{k}": v for k, v in ours.items()} if isinstance(ours, dict) else {}
    return {name: value for name, value in {**checkpoint, **inner}.items() if value is not None}


_A: dict[type, str] = {dict: "dictionary", list: "list", int: "number"}
_ENTRIES: dict[str, type] = {
    "state_dict": dict, "loops": dict, "hyper_parameters": dict, "callbacks": dict,
    "epoch": int, "global_step": int, KEY: dict, f"{KEY}.config": dict,
    f"{KEY}.class_names": list, f"{KEY}.format": int,
}  # fmt: skip
"""Entries that are made use of, and what they are."""
