"""How a device computes: in which number format, and the same bits every time."""

import logging
import os
import re
import warnings
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.cli import LightningArgumentParser

from cifar_lightning.models.hardware import computes_in_bf16

log = logging.getLogger(__name__)

_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


def choose_formats() -> None:
    """Choose TF32 where torch's users expect it: in convolutions, not in matrix products. Asked
    before code of the user's is imported, which may choose otherwise."""
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")


def offer_auto(parser: LightningArgumentParser) -> None:
    """Let ``--trainer.precision`` be auto, which Lightning does not know. jsonargparse takes the
    types of an option from the signature alone."""
    (precision,) = (action for action in parser._actions if action.dest == "trainer.precision")
    precision._typehint = precision._typehint | Literal["auto"]


def resolved(precision: Any, accelerator: str, before: dict[str, Any] | None) -> Any:
    """The number format that a run is written down with. "auto" means that of the checkpoint, and
    in a new run bfloat16 where the hardware computes in it.

    Args:
        precision: ``--trainer.precision``.
        accelerator: ``--trainer.accelerator``.
        before: the configuration of the checkpoint's run, if there is one.
    """
    if precision != "auto":
        return precision
    if before:
        return before["trainer"]["precision"] or "32-true"
    if accelerator in ("auto", "gpu"):
        there = (("cuda", CUDAAccelerator), ("mps", MPSAccelerator))
        accelerator = next((name for name, kind in there if kind.is_available()), "cpu")
    return "bf16-mixed" if computes_in_bf16(accelerator) else "32-true"


def be_deterministic(trainer: Trainer, asked: bool | str | None) -> Trainer:
    """Use algorithms that give the same bits every time on an NVIDIA GPU, unless asked otherwise;
    before CUDA starts. Where torch has none a warning says so, once for each operation.

    Args:
        trainer: what trains; given back.
        asked: ``--trainer.deterministic``.
    """
    if asked is None and isinstance(trainer.accelerator, CUDAAccelerator):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it as it starts
        torch.use_deterministic_algorithms(True, warn_only=True)
    if torch.are_deterministic_algorithms_enabled():
        # filling memory that nobody reads costs a kernel for each tensor, and changes no result
        torch.utils.deterministic.fill_uninitialized_memory = False
    _say_in_one_sentence()
    return trainer


def chosen_by_timing(trainer: Trainer, compile_mode: str | None) -> str | None:
    """The option by which algorithms are chosen anew in each run, by which is the fastest."""
    if torch.backends.cudnn.benchmark and isinstance(trainer.accelerator, CUDAAccelerator):
        return "--trainer.benchmark true"
    return "--model.compile max-autotune" if compile_mode == "max-autotune" else None


def uses_cuda_graphs(compile_mode: str | None) -> bool:
    """Whether ``torch.compile`` records CUDA graphs in this mode, on an NVIDIA GPU."""
    return compile_mode in _CUDA_GRAPHS


def _say_in_one_sentence() -> None:
    show, said = warnings.showwarning, set[str]()

    def show_ours(message: Any, *args: Any, **kwargs: Any) -> None:
        found = re.match(r"(\S+) does not have a deterministic implementation", str(message))
        if found is None:
            show(message, *args, **kwargs)
        elif found[1] not in said:
            said.add(found[1])
            log.warning(
                "%s has no deterministic implementation on this GPU: another run, or a resumed "
                "one, may differ in its last digits.",
                found[1],
            )

    warnings.showwarning = show_ours
