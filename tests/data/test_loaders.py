"""Loaders in other hands than those of a trainer that has their data module."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_equal
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from stand_ins import Tiny
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.data.batches import Share
from cifar_lightning.data.forms import as_taken
from cifar_lightning.data.randomness import epoch_order
from cifar_lightning.data.source import LabelledImages, Split
from cifar_lightning.errors import UsageError


def module(**options: Any) -> CIFAR10DataModule:
    return CIFAR10DataModule(Shapes(300), **{"batch_size": 32, "val_size": 50, **options})


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=3,
        **{"logger": False, "enable_checkpointing": False, "max_epochs": 2, **options},
    )  # fmt: skip


class Own(LightningModule):
    """Somebody else's module, which takes images for rows. Keeps the images that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3072, 10)
        self.given: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        self.given.append((images, labels))
        return F.cross_entropy(self.layer(images.view(len(images), -1)), labels)

    validation_step = test_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def check(batches: list[Any], count: int = 250) -> None:
    """See that these are the batches of one epoch, as a network takes them."""
    assert [len(labels) for _, labels in batches] == [32] * (count // 32) + [count % 32]
    for images, labels in batches:
        assert images.shape == (len(labels), 3, 32, 32)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        assert images.abs().max() <= 1
        assert labels.dtype == torch.int64


def labels_of(batches: Any) -> list[int]:
    return [label for _, labels in batches for label in labels.tolist()]


def expected(data: CIFAR10DataModule, epoch: int) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch, made by hand."""
    images, labels = data.splits.training.take()
    order = epoch_order(len(labels), data.seed, epoch)
    pixels = (images[order].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    return list(zip(pixels.split(32), labels[order].split(32), strict=True))


def assert_batches(given: Any, wanted: Any) -> None:
    for (images, labels), (wanted_images, wanted_labels) in zip(given, wanted, strict=True):
        torch.testing.assert_close(images, wanted_images)
        assert torch.equal(labels, wanted_labels)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda data: None,
        lambda data: data.setup(),
        lambda data: (data.setup("fit"), data.setup("fit"), data.setup()),
        lambda data: (data.prepare_data(), data.setup("validate"), data.setup("test")),
        lambda data: data.setup("predict"),
    ],
    ids=["nothing", "no stage", "twice", "others", "predict"],
)
def test_by_hand(prepare: Callable[[CIFAR10DataModule], None]) -> None:
    data = module()
    prepare(data)
    loader = data.train_dataloader()
    assert len(loader) == 8
    for epoch in range(2):
        batches = list(loader)
        check(batches)
        assert_batches(batches, expected(data, epoch))
    # also where somebody asks for the loader anew in each epoch
    assert_batches(data.train_dataloader(), expected(data, 2))
    for evaluated in (data.val_dataloader(), data.predict_dataloader()):
        check(list(evaluated), 50)
        assert_batches([next(iter(evaluated))], list(evaluated)[:1])
    check(list(data.test_dataloader()), 60)
    assert_batches(data.train_dataloader(), expected(data, 3))
    assert str(data) == "CIFAR10DataModule of Shapes"


def test_training_images_are_augmented_by_hand_as_in_training(tmp_path: Path) -> None:
    augmented = {"flip": True, "translate": 3, "cutout": 8, "jitter": 0.2}
    own, data = Own(), module(**augmented)
    trainer(tmp_path, limit_val_batches=0).fit(own, data)
    for epochs in (module(**augmented), data):
        loader = epochs.train_dataloader()
        assert_batches([*loader, *loader], own.given)


def test_an_unknown_stage() -> None:
    with pytest.raises(ValueError, match="train"):
        module().setup("train")


def test_the_test_split_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Split] = []
    load = Shapes.load

    def watched(self: Shapes, split: Split) -> LabelledImages:
        read.append(split)
        return load(self, split)

    monkeypatch.setattr(Shapes, "load", watched)
    data = module()
    data.setup()
    list(data.val_dataloader())
    str(data)
    assert read == ["train"]
    data.test_dataloader()
    assert read == ["train", "test"]


@pytest.mark.parametrize("before", [False, True], ids=["at first", "after fit"])
def test_loaders_handed_to_a_trainer(before: bool, tmp_path: Path) -> None:
    data, classifier, own = module(), ImageClassifier(Tiny()), Own()
    ours = trainer(tmp_path)
    if before:
        ours.fit(classifier, data)
        ours.fit_loop.max_epochs = 4
    ours.fit(own, data.train_dataloader(), data.val_dataloader())
    # 8 steps, and 2 batches of validation, in each epoch
    assert_batches(own.given[:8] + own.given[10:18], [*expected(data, 0), *expected(data, 1)])
    assert_batches(own.given[18:], data.val_dataloader())
    (handed,) = ours.validate(classifier, data.val_dataloader())
    (whole,) = ours.validate(classifier, data)
    assert handed == pytest.approx(whole)
    (again,) = ours.validate(classifier, data.val_dataloader())
    assert handed == again
    assert len(ours.predict(classifier, data.val_dataloader()) or []) == 2


class Reads(Callback):
    """Goes through a loader at a hook, if it can."""

    def __init__(self, hook: str, loader: Callable[[Trainer], Any]) -> None:
        self.given: list[Any] = []
        self._loader = loader
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Trainer, *_: Any) -> None:
        loader = self._loader(trainer)
        if loader is not None:
            self.given = list(loader)


@pytest.mark.parametrize(
    "hook",
    [
        "on_fit_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end",
        "on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end",
        "on_train_end",
    ],
)  # fmt: skip
def test_a_callback_may_go_through_a_loader(hook: str, tmp_path: Path) -> None:
    data, alone, watched = module(), Own(), Own()
    watched.load_state_dict(alone.state_dict())
    trainer(tmp_path).fit(alone, data)
    readers = [
        Reads(hook, lambda trainer: trainer.train_dataloader),
        Reads(hook, lambda trainer: trainer.val_dataloaders),
        Reads(hook, lambda trainer: trainer.datamodule.train_dataloader()),
    ]
    trainer(tmp_path, callbacks=readers).fit(watched, data)
    for reader, count in zip(readers, (250, 50, 250), strict=True):
        if reader.given or reader is readers[2]:
            check(reader.given, count)
    assert sum(bool(reader.given) for reader in readers) >= (1 if hook == "on_fit_start" else 2)
    assert_batches(watched.given, alone.given)
    assert_equal(watched.state_dict(), alone.state_dict())


@pytest.mark.parametrize("handed", [False, True], ids=["data module", "loaders"])
@pytest.mark.parametrize("step", [3, 8, 11])
def test_resumed_from_a_checkpoint_of_lightning(handed: bool, step: int, tmp_path: Path) -> None:
    class Saves(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    def fit(own: Own, path: Path | None = None) -> Own:
        data = module(flip=True)
        options = {} if path else {"callbacks": [Saves()]}
        ours = trainer(tmp_path, max_epochs=3, limit_val_batches=0, **options)
        if handed:
            ours.fit(own, data.train_dataloader(), data.val_dataloader(), ckpt_path=path)
        else:
            ours.fit(own, data, ckpt_path=path)
        assert ours.global_step == 24
        return own

    whole, resumed = fit(Own()), fit(Own(), tmp_path / "saved.ckpt")
    assert_batches(resumed.given, whole.given[step:])
    assert_equal(resumed.state_dict(), whole.state_dict())


def copies(thing: Any, folder: Path) -> list[Any]:
    torch.save(thing, folder / "thing.pt")
    loaded = torch.load(folder / "thing.pt", weights_only=False)
    return [copy.deepcopy(thing), pickle.loads(pickle.dumps(thing)), loaded]


@pytest.mark.parametrize("fitted", [False, True])
def test_copies_of_module_and_loaders(fitted: bool, tmp_path: Path) -> None:
    data, classifier = module(flip=True), ImageClassifier(Tiny())
    loader = data.train_dataloader()
    if fitted:
        trainer(tmp_path).fit(classifier, data)
    images = expected(data, 0)[0][0]
    for copied in copies(classifier, tmp_path):
        assert_equal(copied.state_dict(), classifier.state_dict())
        assert torch.equal(copied.eval()(images), classifier.eval()(images))
        assert copied.configure_optimizers().defaults == classifier.configure_optimizers().defaults
    for copied in (*copies(data, tmp_path), *[c._module for c in copies(loader, tmp_path)]):
        assert labels_of(copied.train_dataloader()) == labels_of(expected(data, 0))
        trainer(tmp_path, max_epochs=1).fit(copy.deepcopy(classifier), copied)
    for copied in copies(loader, tmp_path):
        assert_batches([next(iter(copied))], [next(iter(module(flip=True).train_dataloader()))])


def foreign(*parts: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*parts), batch_size=16)


def test_further_parts_of_somebody_s_batches_mean_nothing(tmp_path: Path) -> None:
    images, labels = torch.randn(48, 3, 32, 32), torch.arange(48) % 10
    first, second = ImageClassifier(Tiny()), ImageClassifier(Tiny())
    second.load_state_dict(first.state_dict())
    trainer(tmp_path).fit(first, foreign(images, labels), foreign(images, labels))
    loader = foreign(images, labels, torch.arange(48))
    with pytest.warns(UserWarning, match="batches of 3 parts"):
        trainer(tmp_path).fit(second, loader, loader)
    assert_equal(first.state_dict(), second.state_dict())
    predicted = trainer(tmp_path).predict(first, DataLoader(images, batch_size=16))  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(predicted), first.eval()(images).softmax(dim=1))  # type: ignore[arg-type]


def test_batches_of_something_else_are_refused(tmp_path: Path) -> None:
    loader = DataLoader([{"image": torch.zeros(3, 32, 32), "label": 0}], batch_size=1)  # type: ignore[arg-type,var-annotated]
    with pytest.raises(UsageError, match=r"takes batches of images and labels, .* gives a dict"):
        trainer(tmp_path).fit(ImageClassifier(Tiny()), loader)


def test_shares_are_for_modules_that_know_of_them() -> None:
    images, labels = torch.zeros(3, 3, 32, 32), torch.zeros(3, dtype=torch.int64)
    share = as_taken(ImageClassifier(Tiny()), images, labels, (7,))
    assert isinstance(share, Share)
    assert share.of == 7
    assert len(as_taken(Own(), images, labels, (7,))) == 2
    with pytest.raises(UsageError, match="Own cannot be given a share of a batch of 1 images"):
        as_taken(Own(), images[:0], labels[:0], (1,))


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (16, {"barebones": True}),
        (2, {"fast_dev_run": 2}),
        (6, {"limit_train_batches": 3, "limit_val_batches": 1}),
        (8, {"limit_train_batches": 0.5, "val_check_interval": 0.5}),
        (16, {"reload_dataloaders_every_n_epochs": 1}),
        (16, {"logger": True, "enable_checkpointing": True}),
    ],
)
def test_trainers(steps: int, options: dict[str, Any], tmp_path: Path) -> None:
    data, classifier = module(), ImageClassifier(Tiny())
    best = [ModelCheckpoint(monitor="val/acc")] if "enable_checkpointing" in options else []
    if "barebones" in options:
        ours = Trainer(accelerator="cpu", max_epochs=2, **options)
    else:
        ours = trainer(tmp_path, callbacks=best, **options)
    ours.fit(classifier, data)
    assert ours.global_step == steps
    for evaluate in (ours.validate, ours.test):
        evaluate(classifier, data)
    if "barebones" not in options:
        assert ours.callback_metrics["test/loss"] > 0
    assert len(ours.predict(classifier, data) or []) >= 1
