"""What is relied on of Lightning's inner state is still there, and in one file."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
from program import PROJECT
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import LambdaCallback, Timer
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.profilers import SimpleProfiler
from pytorch_lightning.utilities.combined_loader import CombinedLoader, _MaxSizeCycle, _Sequential
from stand_ins import Tiny

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.lightning_internals import RELIED_ON

PACKAGE = PROJECT / "cifar_lightning"
# torch's, argparse's and os'; public ones of named tuples
OF_OTHERS = {
    "_asdict",
    "_fields",
    "_replace",
    "_get_default_store",
    "_abort_process_group",
    "_get_default_mps_generator",
    "_actions",
    "_typehint",
    "_exit",
    "_foreach_lerp_",
    "_foreach_mul_",
    "_foreach_copy_",
}


@pytest.mark.parametrize("name", RELIED_ON)
def test_is_still_there(name: str) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    known = {
        "trainer": trainer,
        "LightningModule": LightningModule,
        "LightningCLI": LightningCLI,
        "TensorBoardLogger": TensorBoardLogger,
        "CombinedLoader": CombinedLoader,
        "_MaxSizeCycle": _MaxSizeCycle,
        "_Sequential": _Sequential,
        "Timer": Timer,
    }
    try:
        eval(name, known)
    except AttributeError:
        pytest.fail(
            f"Lightning {pytorch_lightning.__version__} has no {name} any more: "
            "mend cifar_lightning/lightning_internals.py."
        )


@cache
def own_names() -> frozenset[str]:
    """What is defined anywhere in the package."""
    return frozenset(
        name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in defined(node)
    )


def private_names_of_others(path: Path) -> set[str]:
    """Names with an underscore that a file takes from objects of another package, or imports."""
    own, found = own_names(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr not in own:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("cifar_"):
            found.update(alias.name for alias in node.names)
    return {n for n in found if n.startswith("_") and not n.startswith("__")} - OF_OTHERS


def defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr] if isinstance(node.value, ast.Name) and node.value.id == "self" else []
    return []


def test_only_one_file_touches_it() -> None:
    elsewhere = {
        str(path.relative_to(PACKAGE)): names
        for path in PACKAGE.rglob("*.py")
        if path.name != "lightning_internals.py" and (names := private_names_of_others(path))
    }
    # overridden methods of a base class, and torch's class of all batch norms
    allowed = {"cli/lightning_cli.py": {"_parser"}, "cli/checks.py": {"_BatchNorm"}}
    assert elsewhere == allowed


def test_hooks_that_do_nothing_are_not_called_at_every_step() -> None:
    steps: list[int] = []
    # its hooks are attributes of the object, which its class does not know
    callback = LambdaCallback(on_after_backward=lambda trainer, module: steps.append(1))
    profiler = SimpleProfiler()
    trainer = Trainer(
        accelerator="cpu", max_steps=3, profiler=profiler, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
    )  # fmt: skip
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    trainer.fit(ImageClassifier(Tiny()), datamodule=data)
    assert len(steps) == 3
    called = set(profiler.recorded_durations)
    assert "[Callback]LambdaCallback.on_after_backward" in called
    assert "[LightningModule]ImageClassifier.on_train_batch_end" in called
    assert "[LightningModule]ImageClassifier.on_after_backward" not in called
    assert "[Callback]GlobalGenerators.on_after_backward" not in called


@pytest.mark.parametrize("takes_index", [True, False])
def test_the_index_of_a_batch_is_passed_to_whom_it_is_for(takes_index: bool) -> None:
    seen: list[int | None] = []

    class WithIndex(ImageClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(batch_idx)
            return super().training_step(batch, batch_idx)

    class WithoutIndex(ImageClassifier):
        def training_step(self, batch: Any) -> Any:  # type: ignore[override]
            seen.append(None)
            return super().training_step(batch, len(seen) - 1)

    trainer = Trainer(
        accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, limit_val_batches=0,
    )  # fmt: skip
    module = (WithIndex if takes_index else WithoutIndex)(Tiny())
    trainer.fit(module, datamodule=CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50))
    assert seen == ([0, 1, 2] if takes_index else [None] * 3)
