"""Where a result comes from: versions, device, commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("cifar_lightning", "torch", "torchvision", "pytorch-lightning", "torchmetrics")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a copy of the sources, found by PYTHONPATH
        return "not installed"


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line
            for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
            if "model name" in line
        ]
        name = models[0].split(":")[1].strip() if models else name
    return f"{device.type}: {name or platform.machine()}, {_threads()}"


def computed_by(device: torch.device) -> dict[str, str]:
    """What a run's bits depend on beside its configuration, in words."""
    by = {"torch": f"torch {torch.__version__}"}
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()
        return by | {"device": gpu, "cuda": f"CUDA {cuda}", "cudnn": f"cuDNN {cudnn}"}
    name, _, _ = device_name(device).rpartition(", ")
    instructions = torch.backends.cpu.get_cpu_capability()
    return by | {"device": name, "instructions": instructions, "threads": _threads()}


def changes(before: dict[str, str], now: dict[str, str]) -> str | None:
    """What has changed between two of ``computed_by``, in a sentence; None if nothing has. What an
    earlier version did not write down has not."""
    changed = [f"{now[key]} (was {was})" for key, was in before.items() if now.get(key, was) != was]
    if not changed:
        return None
    return (
        f"This run goes on with {' and '.join(changed)}: its bits may differ from those of an "
        "uninterrupted run."
    )


def _threads() -> str:
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)}"


def numerics(device: torch.device) -> dict[str, Any]:
    """What a GPU's numbers depend on beside its make: versions, TF32, deterministic algorithms."""
    if device.type != "cuda":
        return {}
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matrix_products": torch.get_float32_matmul_precision() != "highest",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def git_state() -> dict[str, Any] | None:
    """The commit of this code, and whether the checkout is clean; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not just a folder within another
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.CalledProcessError):
        return None
