"""Promise: bad input gets one sentence that names the thing, and nothing on disk changes."""

from pathlib import Path

import pytest
import torch
from helpers import TINY, one_sentence
from program import Command

FIT = ("fit", *TINY)
FILES = {
    "malformed.yaml": "data: [1, 2\n",
    "list.yaml": "- 1\n",
    "unknown_key.yaml": "data:\n  val_siz: 3\n",
    "of_test.yaml": "test:\n  data:\n    val_size: 3\n",
    "wrong_type.yaml": "data:\n  batch_size: many\n",
    "some.ckpt": "no checkpoint",
    "empty.ckpt": "",
    "empty.yaml": "",
    "null.yaml": "data:\n",
    "cyclic.yaml": "data: &data\n  source: *data\n",
    "loop.yaml": "config: loop.yaml\n",
    "broken.py": "import torch\nimport nothing_there\n",
    "unfinished.py": "class Net:\n    def f(self)\n",
}

COSINE = ("--model.lr_scheduler", "CosineAnnealingLR")
PLATEAU = ("--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau")


# arguments, what the sentence must hold, exit status
WRONG: list[tuple[tuple[str, ...], tuple[str, ...], int]] = [
    ((), ("a command is missing", "fit"), 2),
    (("--max_epochs", "3"), ("--max_epochs",), 2),
    (("fit", "--print_confg"), ("--print_confg", "did you mean --print_config?"), 2),
    (("fit", "--data.source.root"), ("--data.source", "expected one argument"), 2),
    (("ft",), ("no command ft", "did you mean fit?"), 2),
    (("fit", "stray"), ("stray",), 2),
    (("fit", "--data.source", "CIFAR100"), ("--data.source CIFAR100", "mean CIFAR10?"), 2),
    (("fit", "--data.source", "Shape"), ("--data.source Shape", "did you mean Shapes?"), 2),
    (("fit", "--model.net", "AlexNat"), ("--model.net AlexNat", "did you mean AlexNet?"), 2),
    (("fit", "--model.optimizer", "SDG"), ("--model.optimizer SDG", "did you mean SGD?"), 2),
    (("fit", "--model.lr_scheduler", "StepLr"), ("--model.lr_scheduler StepLr", "StepLR?"), 2),
    (("fit", "--model.lr_scheduler", "StepLR"), ("StepLR needs step_size",), 2),
    (("fit", "--model.lr_scheduler", "OneCycleLR"), ("OneCycleLR needs max_lr",), 2),
    (("fit", "--model.optimizer.momentun", "0.5"), ("momentun",), 2),
    (("fit", "--model.net", "broken.Net"), ("'nothing_there'", "broken.py, line 2"), 2),
    (("fit", "--model.net", "unfinished.Net"), ("expected ':'", "unfinished.py, line 2"), 2),
    (("fit", "--model.net", "stand_ins.Tinny"), ("no Tinny in stand_ins", "stand_ins.Tiny?"), 2),
    (("fit", "--model.net", ""), ('--model.net ""', "no such class"), 2),
    (("fit", "--model.lr", "1"), ("--model.lr,", "--model.optimizer.lr?"), 2),
    (("fit", "--model.loss", "nope"), ("--model.loss nope: there is no such class",), 2),
    (("fit", "--model.metrics", "MulticlassF1"), ("MulticlassF1Score?",), 2),
    (("fit", "--trainer.callbacks", "EarlyStoping"), ("mean EarlyStopping?",), 2),
    (("fit", "--trainer.callbacks", "stand_ins.Tiny"), ("is no Callback",), 2),
    ((*FIT, "--trainer.callbacks", "cifar_lightning.callbacks.Checkpoints"),
     ("Checkpoints", "--checkpoints.monitor"), 2),
    (("fit", "--config", "latin.yaml"), ("--config latin.yaml, line 2", "UTF-8"), 2),
    ((*FIT, "--trainer.val_check_interval", "700"), ("val_check_interval 700", "8 batches"), 2),
    ((*FIT, "--trainer.limit_train_batches", "0.001"), ("limit_train_batches 0.001", "8"), 2),
    ((*FIT, "--trainer.gradient_clip_val", ".nan"), ("gradient_clip_val nan",), 2),
    ((*FIT, "--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val_loss"),
     ("EarlyStopping monitors val_loss", "mean val/loss?"), 2),
    ((*FIT, "--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau",
      "--model.lr_scheduler_interval", "step"), ("ReduceLROnPlateau follows val/loss",), 2),
    ((*FIT, "--model.lr_scheduler", "StepLR", "--model.lr_scheduler.step_size", "0"),
     ("StepLR (step_size 0", "zero"), 2),
    ((*FIT, "--model.lr_scheduler", "OneCycleLR", "--model.lr_scheduler.max_lr", "0.1",
      "--model.lr_scheduler.total_steps", "20", "--model.lr_scheduler_interval", "step"),
     ("OneCycleLR", "step 24 times", "20"), 2),
    ((*FIT, "--model.optimizer.lr", "null"), ("SGD (lr null", "wrong kind"), 2),
    ((*FIT, "--model.optimizer", "torch.optim.Muon"), ("--model.optimizer Muon", "2D"), 2),
    ((*FIT, "--model.optimizer", "SparseAdam"), ("SparseAdam", "dense gradients"), 2),
    ((*FIT, "--model.weights", "nowhere.pt"), ("nowhere.pt: there is no such file",), 1),
    ((*FIT, "--model.weights", "some.ckpt"), ("--model.weights some.ckpt",), 1),
    ((*FIT, "--data.translate", "-1"), ("data.translate -1",), 2),
    ((*FIT, "--data.translate", "32"), ("--data.translate 32", "smaller"), 2),
    ((*FIT, "--data.cutout", "-2"), ("data.cutout -2",), 2),
    ((*FIT, "--data.jitter", "1.5"), ("data.jitter 1.5", "from 0, for none, to 1"), 2),
    ((*FIT, "--model.label_smoothing", "1"), ("model.label_smoothing 1", "below 1"), 2),
    ((*FIT, "--model.warmup", "0.5"), ("model.warmup needs", "lr_scheduler_interval step"), 2),
    ((*FIT, "--model.initialisation", "xavier"), ("xavier", "kaiming"), 2),
    ((*FIT, *COSINE, "--model.lr_scheduler.T_max", "-1"), ("-1", "interval step"), 2),
    ((*FIT, *COSINE, "--model.lr_scheduler.T_max", "-1", "--model.lr_scheduler_interval", "step",
      "--trainer.max_epochs", "-1"), ("--trainer.max_epochs",), 2),
    ((*FIT, "--trainer.devices", "2", "--trainer.strategy", "ddp_spawn"), ("strategy ddp",), 2),
    ((*FIT, "--trainer.devices", "2", "--trainer.strategy", "fsdp"), ("fsdp",), 2),
    ((*FIT, "--trainer.devices", "2", "--data.batch_size", "1"), ("--data.batch_size 1",), 2),
    ((*FIT, "--trainer.devices", "2", "--model.net", "ResNet18"), ("ResNet18", "one process"), 2),
    ((*FIT, "--trainer.num_nodes", "0"), ("num_nodes",), 2),
    (("fit", "--model.optimizer.lr", "fast"), ("--model.optimizer.lr fast", "must be a number"), 2),
    ((*FIT, "--model.optimizer.lr", "0"), ("--model.optimizer.lr 0", "above 0"), 2),
    ((*FIT, "--model.optimizer.lr", ".nan"), ("--model.optimizer.lr nan", "finite"), 2),
    ((*FIT, "--model.optimizer.lr", ".inf"), ("--model.optimizer.lr inf", "finite"), 2),
    (("fit", "--model.optimizer", "torch.nn.Linear"), ("--model.optimizer torch.nn.Linear",), 2),
    (("fit", "--model.lr_scheduler_interval", "minute"), ("minute", "epoch", "step"), 2),
    (("fit", "--model.net", "torchvision.models.resnet81"), ("no resnet81", "resnet18?"), 2),
    ((*FIT, "--model.optimizer.lr", "-1"), ("--model.optimizer", "learning rate: -1"), 2),
    ((*FIT, "--model.optimizer.momentum", "-1"), ("--model.optimizer", "momentum"), 2),
    (("fit", "--trainer.max_epoch", "3"), ("--trainer.max_epoch,", "--trainer.max_epochs?"), 2),
    (("fit", "--trainer.max_epochs", "many"), ("--trainer.max_epochs many", "a whole number"), 2),
    ((*FIT, "--trainer.max_epochs", "-3"), ("max_epochs", "-3"), 2),
    ((*FIT, "--trainer.max_epochs", "0"), ("--trainer.max_epochs 0", "at least 1"), 2),
    ((*FIT, "--trainer.max_steps", "0"), ("--trainer.max_steps 0", "at least 1"), 2),
    ((*FIT, "--trainer.log_every_n_steps", "0"), ("--trainer.log_every_n_steps 0",), 2),
    ((*FIT, "--trainer.accumulate_grad_batches", "0"), ("accumulate_grad_batches 0",), 2),
    ((*FIT, "--trainer.check_val_every_n_epoch", "0"), ("check_val_every_n_epoch 0",), 2),
    ((*FIT, "--trainer.val_check_interval", "0"), ("val_check_interval 0", "above 0"), 2),
    ((*FIT, "--trainer.gradient_clip_val", "-1"), ("gradient_clip_val -1",), 2),
    ((*FIT, "--trainer.limit_train_batches", "0"), ("limit_train_batches 0", "above 0"), 2),
    ((*FIT, "--trainer.max_time", "soon"), ("soon", "DD:HH:MM:SS"), 2),
    ((*FIT, "--trainer.default_root_dir", "/proc/x"), ("/proc/x/lightning_logs",), 1),
    (("fit", "--data.batch_size", "1.5"), ("--data.batch_size 1.5", "a whole number"), 2),
    ((*FIT, "--data.batch_size", "0"), ("data.batch_size 0",), 2),
    ((*FIT, "--data.batch_size", "-64"), ("data.batch_size -64",), 2),
    ((*FIT, "--data.val_size", "2.5"), ("data.val_size 2.5", "a share below 1"), 2),
    ((*FIT, "--data.val_size", "some"), ("--data.val_size some", "auto or a number"), 2),
    ((*FIT, "--data.val_size", "0.99"), ("--data.val_size 0.99", "at most 290"), 2),
    ((*FIT, "--data.val_size", "true"), ("--data.val_size",), 2),
    ((*FIT, "--data.val_size", "null", "--trainer.callbacks", "EarlyStopping",
      "--trainer.callbacks.monitor", "val/loss"), ("--data.val_size null", "val/loss"), 2),
    ((*FIT, "--data.val_size", "null", *PLATEAU), ("--data.val_size null", "waits for"), 2),
    ((*FIT, "--trainer.limit_val_batches", "0", *PLATEAU), ("limit_val_batches 0:",), 2),
    (("fit", "--data.source", "Torchvision", "--data.source.name", "CIFAR1000"),
     ("data.source.name CIFAR1000", "did you mean CIFAR100?"), 2),
    (("fit", "--data.source", "Torchvision", "--data.source.name", "CocoDetection"),
     ("data.source.name CocoDetection", "MNIST"), 2),
    (("fit", "--data.source", "Torchvision", "--data.source.name", "EMNIST"),
     ("data.source.options {}", "split"), 2),
    ((*FIT, "--data.source.root", "x"), ("--data.source.root x: Shapes has no root;",), 2),
    ((*FIT, "--data.val_size", "-50"), ("data.val_size -50",), 2),
    ((*FIT, "--data.val_size", "300"), ("--data.val_size", "300"), 2),
    ((*FIT, "--data.std", "[0,0,0]"), ("data.std [0.0, 0.0, 0.0]",), 2),
    ((*FIT, "--data.mean", "[1,2]"), ("data.mean [1.0, 2.0]",), 2),
    ((*FIT, "--data.source.size", "77"), ("data.source.size 77",), 2),
    ((*FIT, "--model.net.num_classes", "7"), ("--model.net.num_classes 7", "10 classes"), 2),
    ((*FIT, "--model.net", "torch.nn.ReLU"), ("--model.net ReLU", "num_classes"), 2),
    ((*FIT, "--model.net", "stand_ins.OneOutput"), ("OneOutput", "10 classes"), 2),
    (
        (*FIT, "--model.lr_scheduler", "ReduceLROnPlateau"),
        ("several", "torch.optim.lr_scheduler.ReduceLROnPlateau, pytorch_lightning.cli."),
        2,
    ),
    (
        (*FIT, "--model.lr_scheduler", "pytorch_lightning.cli.ReduceLROnPlateau"),
        ("needs monitor", "--model.lr_scheduler.monitor"),
        2,
    ),
    ((*FIT, "--checkpoints.monitor", "nope"), ("--checkpoints.monitor nope", "val/acc"), 2),
    ((*FIT, "--dashboard.pictures_every_n_epochs", "-1"), ("pictures_every_n_epochs -1",), 2),
    ((*FIT, "--dashboard.graph", "perhaps"), ("--dashboard.graph perhaps", "true or false"), 2),
    ((*FIT, "--checkpoints.every_seconds", "-1"), ("checkpoints.every_seconds -1",), 2),
    (("fit", "--seed_everything", "-1"), ("--seed_everything", "-1"), 2),
    (("fit", "--seed_everything", "x"), ("--seed_everything", "x"), 2),
    (("fit", "--seed_everything", "99999999999"), ("--seed_everything", "99999999999"), 2),
    ((*FIT, "--trainer.accelerator", "tpu"), ("torch_xla",), 2),
    ((*FIT, "--trainer.accelerator", "quantum"), ("quantum",), 2),
    ((*FIT, "--trainer.devices", "0"), ("devices",), 2),
    ((*FIT, "--trainer.strategy", "dpp"), ("strategy", "dpp"), 2),
    ((*FIT, "--trainer.precision", "7"), ("--trainer.precision 7",), 2),
    ((*FIT, "--trainer.precision", "16-mixed"), ("precision 16-mixed", "bf16-mixed works"), 2),
    ((*FIT, "--trainer.precision", "transformer-engine"), ("transformer_engine",), 2),
    ((*FIT, "--trainer.devices", "-1"), ("devices",), 2),
    ((*FIT, "--trainer.devices", "many"), ("devices",), 2),
    ((*FIT, "--trainer.devices", "1000"), ("--data.batch_size 32", "1000 processes"), 2),
    ((*FIT, "--trainer.num_nodes", "0"), ("num_nodes",), 2),
    ((*FIT, "--trainer.limit_train_batches", "-5"), ("limit_train_batches", "-5"), 2),
    ((*FIT, "--trainer.profiler", "zzz"), ("profiler",), 2),
    (("fit", "--trainer.logger", "Nope"), ("--trainer.logger Nope",), 2),
    ((*FIT, "--data.cutout", "500"), ("--data.cutout 500", "32 pixels", "smaller"), 2),
    ((*FIT, "--trainer.min_epochs", "9"), ("min_epochs 9 is more than --trainer.max_epochs 3",), 2),
    ((*FIT, "--trainer.min_epochs", "-1"), ("--trainer.min_epochs -1", "at least 0"), 2),
    ((*FIT, "--trainer.min_steps", "9", "--trainer.max_steps", "4"), ("--trainer.min_steps 9",), 2),
    ((*FIT, "--trainer.max_time", "00:00:00:00"), ("--trainer.max_time must be above 0",), 2),
    ((*FIT, "--trainer.max_time", "{hours: -1}"), ("--trainer.max_time must be above 0",), 2),
    ((*FIT, "--trainer.num_sanity_val_steps", "-2"), ("--trainer.num_sanity_val_steps -2",), 2),
    ((*FIT, "--trainer.gradient_clip_val", ".nan"), ("--trainer.gradient_clip_val nan",), 2),
    ((*FIT, "--trainer.limit_val_batches", ".inf"), ("--trainer.limit_val_batches inf",), 2),
    ((*FIT, "--trainer.gradient_clip_algorithm", "value"), ("clips nothing",), 2),
    ((*FIT, "--trainer.check_val_every_n_epoch", "4"), ("would never validate",), 2),
    ((*FIT, "--trainer.limit_train_batches", "0.01"), ("0.01", "there are 8"), 2),
    ((*FIT, "--trainer.limit_val_batches", "0.1"), ("limit_val_batches 0.1", "there are 2"), 2),
    ((*FIT, "--trainer.val_check_interval", "9"), ("val_check_interval 9", "the 8 batches"), 2),
    ((*FIT, "--model.lr_scheduler_interval", "step"), ("needs a --model.lr_scheduler",), 2),
    ((*FIT, "--model.optimizer.momentum", ".nan"), ("--model.optimizer.momentum nan",), 2),
    ((*FIT, "--checkpoints.every_seconds", ".nan"), ("--checkpoints.every_seconds nan",), 2),
    ((*FIT, "--data.mean", "[.nan,0,0]"), ("--data.mean nan",), 2),
    ((*FIT, "--data.std", "[1e-300,1,1]"), ("data.std [1e-300, 1.0, 1.0]", "finite"), 2),
    ((*FIT, "--run_name", " "), ("--run_name ' '", "must be a name"), 2),
    ((*FIT, "--run_name", "two\nlines"), ("--run_name", "one line"), 2),
    (("fit", "--config"), ("--config", "expected one argument"), 2),
    (("fit", "--config", "missing.yaml"), ("--config", "missing.yaml"), 2),
    (("fit", "--config", "malformed.yaml"), ("config", "line 2"), 2),
    (("fit", "--config", "list.yaml"), ("config",), 2),
    (("fit", "--config", "null.yaml"), ("config", "data"), 2),
    (("fit", "--config", "empty.yaml"), ("--config empty.yaml is empty",), 2),
    (("fit", "--config", "cyclic.yaml"), ("--config cyclic.yaml", "alias"), 2),
    (("fit", "--config=cyclic.yaml"), ("--config cyclic.yaml", "alias"), 2),
    (("fit", "--config", "loop.yaml"), ("loop.yaml -> loop.yaml",), 2),
    (("fit", "--config", "some.ckpt"), ("config", "no checkpoint"), 2),
    (("fit", "--config=unknown_key.yaml"), ("data.val_siz",), 2),
    (("fit", "--config", "unknown_key.yaml"), ("data.val_siz",), 2),
    (("fit", "--config", "of_test.yaml"), ("fit", "test.data.val_size"), 2),
    (("fit", "--config", "wrong_type.yaml"), ("wrong_type.yaml: data.batch_size many",), 2),
    (("fit", "--data.source", "ImageFolder", "--data.source.root", "nowhere"), ("nowhere",), 1),
    (("fit", "--ckpt_path", "last"), ("--ckpt_path last", "no run"), 1),
    (("fit", "--ckpt_path", "best"), ("--ckpt_path best", "no run"), 1),
    (("test",), ("--ckpt_path best", "no run"), 1),
    (("test", "--ckpt_path", "nope.ckpt"), ("nope.ckpt: there is no such checkpoint",), 1),
    (("test", "--ckpt_path", "some.ckpt"), ("some.ckpt is not a checkpoint",), 1),
    (("validate", "--ckpt_path", "empty.ckpt"), ("empty.ckpt is not a checkpoint",), 1),
    (("export",), ("--to",), 2),
    (("export", "--to", "x.onnx"), ("--ckpt_path best", "no run"), 1),
    (("export", "--to", "x.bin"), ("--to x.bin", ".onnx"), 2),
    (("compare", "--formt", "md"), ("--formt",), 2),
    (("compre",), ("no command compre", "did you mean compare?"), 2),
    (("predict", "--ckpt_path", "."), ("--ckpt_path .: the run has no best checkpoint",), 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "parts", "status"), WRONG, ids=lambda value: " ".join(map(str, value))[-50:]
    if isinstance(value, tuple) else "",
)  # fmt: skip
def test_wrong_usage(
    arguments: tuple[str, ...], parts: tuple[str, ...], status: int, command: Command,
    tmp_path: Path,
) -> None:  # fmt: skip
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "latin.yaml").write_bytes(b"data:\n  batch_size: 32 # \xe9\n")
    ended = command(*arguments)
    assert ended.status == status, ended
    sentence = one_sentence(ended)
    for part in parts:
        assert part in sentence
    written = {path.name for path in tmp_path.iterdir()} - {"__pycache__", "latin.yaml"}
    assert written == {*FILES, ".out.stdout", ".out.stderr"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_gpu_where_there_is_none(accelerator: str, command: Command, tmp_path: Path) -> None:
    ended = command(*FIT, "--trainer.accelerator", accelerator)
    assert ended.status == 2
    assert accelerator in one_sentence(ended).lower()
    assert not (tmp_path / "lightning_logs").exists()


def test_logs_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").write_text("a file")
    ended = command(*FIT)
    assert ended.status == 1
    assert "lightning_logs cannot hold a new run" in one_sentence(ended)
    (tmp_path / "lightning_logs").unlink()
    (tmp_path / "lightning_logs").mkdir(mode=0o555)
    ended = command(*FIT, obeys_permissions=True)
    assert ended.status == 1
    assert "lightning_logs cannot hold a new run" in one_sentence(ended)


def test_loss_that_is_no_number(command: Command, tmp_path: Path) -> None:
    ended = command(*FIT, "--model.optimizer.lr", "1e38", "--trainer.log_every_n_steps", "1")
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert ended.status == 1
    sentence = one_sentence(ended)
    for part in ("no longer finite at step", "learning rate 1e+38", last):
        assert part in sentence
    resumed = command("fit", "--ckpt_path", "last", "--model.optimizer.lr", "0.01")
    assert resumed.status == 0, resumed.stderr


def test_checkpoint_that_one_may_not_read(command: Command, tmp_path: Path) -> None:
    (tmp_path / "secret.ckpt").write_text("")
    (tmp_path / "secret.ckpt").chmod(0)
    ended = command("test", "--ckpt_path", "secret.ckpt", obeys_permissions=True)
    assert ended.status == 1
    assert "secret.ckpt cannot be read" in one_sentence(ended)


def test_checkpoint_of_another_network(command: Command, run: Path) -> None:
    ended = command("test", "--model.net", "AlexNet")
    assert ended.status == 2
    assert "is not what lightning_logs/version_0/checkpoints/epoch=" in one_sentence(ended)
    # its code may have become another since
    path = next(run.glob("checkpoints/epoch=*"))
    content = torch.load(path, weights_only=True)
    content["cifar_lightning"]["config"]["model"]["net"] = {"class_path": "AlexNet"}
    torch.save(content, path)
    ended = command("test")
    assert ended.status == 1
    assert "holds another network than AlexNet" in one_sentence(ended)


def test_traceback_on_request(command: Command) -> None:
    ended = command("test", CIFAR_LIGHTNING_TRACEBACK="1")
    assert ended.status == 1
    assert "Traceback" in ended.stderr
