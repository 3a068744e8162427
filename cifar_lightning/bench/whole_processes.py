"""What whole processes take: memory, and time to start."""

import os
import subprocess
import sys
import time

import torch

# Linux adds to a process's ru_maxrss what its parent had in memory when it was started.
_FIT_AND_SAY_PEAK = """
import atexit, sys
def say():
    if sys.platform == "linux":
        print(1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]))
    elif sys.platform == "win32": print("nan")  # which has no resource
    else:
        import resource
        print((1 if sys.platform == "darwin" else 1024) * resource.getrusage(0).ru_maxrss)
atexit.register(say)
from cifar_lightning.__main__ import main
main()
"""


def peak_memory(folder: str) -> dict[str, float]:
    """Of a process of its own, which trains, validates and saves; in units of 10⁶ bytes.

    Args:
        folder: where its run is put. Its options are those of this program.
    """
    arguments = [word for word in sys.argv[1:] if word != "fit"]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=20"]
    # of longer runs
    short += ["--trainer.min_epochs=null", "--trainer.check_val_every_n_epoch=1"]
    short += ["--trainer.val_check_interval=null", f"--trainer.default_root_dir={folder}"]
    command = [sys.executable, "-c", _FIT_AND_SAY_PEAK, "fit", *arguments, *short]
    done = subprocess.run(command, capture_output=True, text=True, env=_environ(), check=True)
    peak = {"process": float(done.stdout.split()[-1]) / 1e6}
    if torch.cuda.is_available():
        peak["gpu, of this process"] = torch.cuda.max_memory_allocated() / 1e6
    return peak


def start_up() -> dict[str, float]:
    """Wall time of whole processes, the best of three."""
    programs = {
        "--help": ["-m", "cifar_lightning", "--help"],
        "fit --help": ["-m", "cifar_lightning", "fit", "--help"],
        "import pytorch_lightning.cli": ["-c", "import pytorch_lightning.cli"],
    }
    return {name: min(_seconds(program) for _ in range(3)) for name, program in programs.items()}


def _seconds(program: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *program], capture_output=True, check=True, env=_environ())
    return time.perf_counter() - start


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
