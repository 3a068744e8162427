"""docs/tour.ipynb, and the program in the kernel of a notebook."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from program import PROJECT, PYTHONPATH

TOUR = PROJECT / "docs/tour.ipynb"


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Execute a notebook in a folder of its own, and give what its cells have printed."""
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "notebook"
    folder.mkdir()

    def execute(notebook: Any) -> str:
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
        return printed(notebook)

    return execute


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


def test_the_tour_runs_as_it_is_shown(executed: Any) -> None:
    shown = nbformat.read(TOUR, as_version=4)
    code = [cell for cell in shown.cells if cell.cell_type == "code"]
    assert len(code) == 10
    assert TOUR.stat().st_size <= 60_000
    assert all(cell.outputs for cell in code)
    pictures = [o for o in outputs(shown) if any("image/" in kind for kind in o.get("data", {}))]
    assert len(pictures) == 3
    assert "/lib/python" not in TOUR.read_text()
    now = executed(nbformat.read(TOUR, as_version=4))
    for line in ("10 classes: arrow, bar", "best           epoch 6, val/acc", "test accuracy"):
        assert line in printed(shown)
        assert line in now


IN_A_CELL = """
from torch import nn
from cifar_lightning import fit

class Rows(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(3072, num_classes)

    def forward(self, images):
        return self.linear(images.flatten(1))

small = ("--data.source", "Shapes", "--data.source.size", 300, "--data.val_size", 50)
run = fit("--model.net", "__main__.Rows", *small, "--trainer.max_epochs", 1)
print("trained", run.path.name, run.status)
"""
STOPPED = """
try:
    fit("--model.net", "__main__.Rows", *small, "--trainer.callbacks", "stand_ins.SignalAt",
        "--trainer.callbacks.hook", "on_train_batch_end", "--trainer.callbacks.call", 5,
        "--trainer.callbacks.signal_name", "SIGINT")
except KeyboardInterrupt:
    print("stopped")
"""
GOES_ON = """
run = fit("--ckpt_path", "last", "--trainer.max_epochs", 2, "--trainer.callbacks", "null")
print("went on", run.path.name, run.status)
"""


@pytest.mark.slow
def test_a_network_of_a_cell_and_the_stop_button(executed: Any) -> None:
    cells = [new_code_cell(source) for source in (IN_A_CELL, STOPPED, GOES_ON)]
    said = executed(new_notebook(cells=cells))
    for line in ("trained version_0 finished", "\nstopped\n", "went on version_1 finished"):
        assert line in said
