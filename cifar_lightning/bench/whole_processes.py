"""What whole processes take: memory, and time to start."""

import logging
import os
import subprocess
import sys
import time

import torch

log = logging.getLogger(__name__)

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
    printed = _output_of("fit", command)
    peak = {} if printed is None else {"process": float(printed.split()[-1]) / 1e6}
    if torch.cuda.is_available():
        peak["gpu, of this process"] = torch.cuda.max_memory_allocated() / 1e6
    return peak


def start_up() -> dict[str, float]:
    """Wall time of whole processes, the best of three; of those that end with status 0."""
    programs = {
        "--help": ["-m", "cifar_lightning", "--help"],
        "fit --help": ["-m", "cifar_lightning", "fit", "--help"],
        "import pytorch_lightning.cli": ["-c", "import pytorch_lightning.cli"],
    }
    best = {}
    for name, program in programs.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            if _output_of(name, [sys.executable, *program]) is None:
                break
            seconds.append(time.perf_counter() - start)
        else:
            best[name] = min(seconds)
    return best


def _output_of(name: str, command: list[str]) -> str | None:
    """What a process prints. If it fails a warning says so, and the minutes of measurements before
    it are not lost."""
    done = subprocess.run(command, capture_output=True, text=True, env=_environ(), check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().rpartition("\n")[2]
    log.warning("Not measured: %s ended with status %d (%s).", name, done.returncode, said)
    return None


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
