"""``cifar_lightning`` on a pretended GPU. Run by its path in the program's place; the environment's
PRETENDED is ``mps`` or ``cuda``, and REPORT names a file for the operations that ran on it."""

import json
import os
from pathlib import Path

from pretended import PretendedGPU

from cifar_lightning.__main__ import main

if __name__ == "__main__":
    with PretendedGPU(os.environ["PRETENDED"]) as gpu:
        try:
            main()
        finally:
            names = sorted(str(operation._schema).split("(")[0] for operation in gpu.operations)
            Path(os.environ["REPORT"]).write_text(json.dumps(names))
