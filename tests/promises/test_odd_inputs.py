"""Promise: odd files, paths, numbers and checkpoints get one sentence, too, and change nothing."""

import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import RUN, TINY, files, one_sentence, write_images
from PIL import Image
from program import PYTHONPATH, Command

FIT = ("fit", *TINY)
IMAGES = (*FIT, "--data.source", "ImageFolder", "--data.source.root")
OF_RUN = ("--ckpt_path", "run/version_0")
PICTURES = ("predict", *OF_RUN, "--data.images")
LONG = "x" * 300
URLS = ("http://example.org/x", "s3://bucket/x", "file:///tmp/x")

CONFIGS: dict[str, bytes] = {
    "list.yaml": b"[1, 2]\n",
    "binary.yaml": bytes(range(256)),
    "scalar.yaml": b"hello\n",
    "comment.yaml": b"# nothing\n",
    "two_documents.yaml": b"data: {flip: true}\n---\ndata: {flip: false}\n",
    "python.yaml": b"run_name: !!python/object/apply:os.system ['echo hi']\n",
    "tag.yaml": b"data: !mine {flip: true}\n",
    "group_list.yaml": b"data: [flip, true]\n",
    "null_number.yaml": b"data:\n  batch_size:\n",
    "null_bool.yaml": b"data: {flip: null}\n",
    "null_net.yaml": b"model: {net: null}\n",
    "net_list.yaml": b"model: {net: [LeNet5, AlexNet]}\n",
    "no_anchor.yaml": b"data: *missing\n",
    "anchor_left.yaml": b"base: &b {batch_size: 8}\ndata:\n  <<: *b\n",
    "of_fit.yaml": b"fit:\n  data:\n    batch_size: 8\n",
    "json.json": b'{"data": {"batch_size": "x"}}',
    "deep.yaml": b"[" * 3000,
    "bomb.yaml": b"data: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        f"{c}: &{c} [{','.join(['*' + b] * 10)}]\n".encode()
        for b, c in zip("abcdefg", "bcdefgh", strict=True)
    ),
    "date.yaml": b"data: {batch_size: 2020-01-01}\n",
    "yes.yaml": b"seed_everything: yes\n",
    "callback_number.yaml": b"trainer: {callbacks: 3}\n",
    "utf_16.yaml": "data: {batch_size: 8}\n".encode("utf-16"),
    "integer_key.yaml": b"1: 2\n",
    "no_space.yaml": b"data:batch_size: 8\n",
}
OF_CONFIGS = {
    "two_documents.yaml": "two_documents.yaml, line 2: but found another document",
    "python.yaml": "python/object",
    "tag.yaml": "!mine",
    "group_list.yaml": "group_list.yaml, line 1: data holds a list",
    "null_number.yaml": "null_number.yaml: data.batch_size null",
    "null_bool.yaml": "null_bool.yaml: data.flip null",
    "null_net.yaml": "model.net",
    "net_list.yaml": "model.net",
    "no_anchor.yaml": "undefined alias 'missing'",
    "anchor_left.yaml": "base",
    "of_fit.yaml": "fit.data",
    "json.json": "json.json: data.batch_size x",
    "date.yaml": "date.yaml: data.batch_size 2020-01-01",
    "yes.yaml": "yes.yaml: seed_everything",
    "callback_number.yaml": "callback_number.yaml: trainer.callbacks 3",
    "list.yaml": "[1, 2]",
    "scalar.yaml": "hello",
    "integer_key.yaml": "1",
    "no_space.yaml": "data:batch_size",
}

# Checkpoints that differ from a good one in one entry; None takes it out.
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "no_state.ckpt": {"state_dict": None},
    "no_loops.ckpt": {"loops": {}},
    "list_ours.ckpt": {"cifar_lightning": [1]},
    "text_config.ckpt": {"cifar_lightning": {"config": "x"}},
    "text_classes.ckpt": {"cifar_lightning": {"class_names": "ring"}},
    "list_hyper.ckpt": {"hyper_parameters": [1]},
    "text_step.ckpt": {"global_step": "x"},
    "no_weights.ckpt": {"state_dict": {}},
    "foreign.ckpt": {"state_dict": {"encoder.w": torch.zeros(3)}, "cifar_lightning": None},
}

# arguments, what the sentence must hold, exit status
ODD: list[tuple[tuple[str, ...], str, int]] = [
    *[(("fit", "--config", name), OF_CONFIGS.get(name, name), 2) for name in CONFIGS],
    *[(("fit", "--config", url), f"--config {url}: this is an address", 2) for url in URLS],
    (("fit", "--config", LONG), "File name too long", 2),
    (("fit", "--config", ""), '--config "": give a path', 2),
    (("fit", "--config", "loop"), "--config loop: there is no such file", 2),
    (("fit", "--config", "pipe"), "--config pipe is a pipe", 2),
    (("fit", "--config", "good"), "good", 2),
    # addresses, where a path of this machine is wanted
    *[(words, f"{words[-1]}: this is an address", 2) for words in [
        (*FIT, "--model.weights", URLS[0]),
        ("fit", "--ckpt_path", URLS[1]),
        ("test", "--ckpt_path", URLS[0]),
        (*FIT, "--trainer.default_root_dir", URLS[2]),
        (*PICTURES, "good", "--to", f"{URLS[0]}.csv"),
        (*PICTURES, URLS[2]),
    ]],
    ((*IMAGES, URLS[0]), "http:/example.org/x: this is an address", 2),
    (("fit", "--data.source", "CIFAR10", "--data.source.root", URLS[1]), "s3:/bucket/x", 2),
    (("fit", "--data.source", "Torchvision", "--data.source.name", "MNIST",
      "--data.source.root", URLS[2]), "file:/tmp/x", 2),
    (("fit", "--data.source", "CIFAR10", "--data.source.mirrors", "[somewhere]"),
     "data.source.mirrors somewhere", 2),
    # paths
    (("compare", LONG), "File name too long", 2),
    ((*FIT, "--model.weights", LONG), "File name too long", 2),
    *[((*FIT, "--model.weights", name), f"--model.weights {name}", 1) for name in (
        "pipe", "list.pt", "empty.safetensors",
    )],
    (("compare", "--logs", URLS[0]), f"{URLS[0]}: this is an address", 2),
    (("export", *OF_RUN, "--to", f"{URLS[2]}.pt2"), f"{URLS[2]}.pt2: this is an address", 2),
    (("fit", "--ckpt_path", "list_ours.ckpt"), "list_ours.ckpt", 1),
    (("fit", "--ckpt_path", "cut.ckpt"), "cut.ckpt", 1),
    *[(words, "~no-such-user", 2) for words in [
        ("compare", "--logs=~no-such-user/x"), ("validate", "--ckpt_path", "~no-such-user/x"),
        (*FIT, "--model.weights", "~no-such-user/x"), (*PICTURES, "~no-such-user"),
    ]],
    ((*FIT, "--model.weights", ""), '--model.weights "": give a path', 2),
    ((*FIT, "--model.weights", "best"), "--model.weights best: no run", 1),
    *[((*IMAGES, name), name, 1) for name in (
        "good/train/a/0.png", "emptydir", "flat", "bad", "capitals", "loop", "pipe", "/dev/null",
        "apart",
    )],
    ((*IMAGES, "line\nend"), r"line\nend/train is not a folder", 1),
    (("fit", "--ckpt_path", "line\nend"), r"line\nend", 1),
    ((*PICTURES, "\x1b[31m"), r"\x1b[31m: there is no such file", 1),
    ((*FIT, "--trainer.default_root_dir", "good/train/a/0.png"), "good/train/a/0.png", 1),
    # pictures
    *[((*PICTURES, f"pictures/{name}"), f"{name} cannot be read as an image", 1) for name in (
        "zero.png", "html.png", "cut.png", "bomb.png", "no_size.png", "text.svg",
    )],
    *[((*PICTURES, name), f"--data.images {name}", 1) for name in ("emptydir", "loop", "pipe")],
    ((*PICTURES, ""), '--data.images "": give a path', 2),
    ((*PICTURES, "good", "--to", "x.txt"), "--to x.txt", 2),
    ((*PICTURES, "good", "--to", "nowhere/x.csv"), "--to nowhere/x.csv", 2),
    ((*PICTURES, "good", "--to", "loop/x.csv"), "--to loop/x.csv", 2),
    # checkpoints
    *[(("test", "--ckpt_path", name), name, 1) for name in (
        *CHECKPOINTS, "bare.pt", "zip.ckpt", "cut.ckpt", "emptydir", "pipe", "broken",
    )],
    (("export", "--to", "x.safetensors", "--ckpt_path", "no_weights.ckpt"), "no_weights.ckpt", 1),
    (("export", "--to", "x.safetensors", "--ckpt_path", "list_hyper.ckpt"), "list_hyper.ckpt", 1),
    (("fit", "--ckpt_path", ""), '--ckpt_path "": give a path', 2),
    (("test", "--ckpt_path", ""), '--ckpt_path "": give a path', 2),
    (("fit", *OF_RUN, "--seed_everything", "7"), "--seed_everything 7", 2),
    (("test", *OF_RUN, "--trainer.limit_test_batches", "0"), "limit_test_batches 0", 2),
    (("validate", *OF_RUN, "--trainer.limit_val_batches", "0"), "limit_val_batches 0", 2),
    (("predict", *OF_RUN, "--trainer.limit_predict_batches", "0"), "limit_predict_batches 0", 2),
    # what comes after training
    (("compare", *OF_RUN[1:], "--to", "x.txt"), "--to x.txt: its name must end in .png", 2),
    (("compare", *OF_RUN[1:], "--to", "x"), "--to x: its name must end in .png", 2),
    (("compare", *OF_RUN[1:], "--to", "nowhere/x.png"), "there is no folder", 2),
    (("compare", *OF_RUN[1:], "--to", "loop/x.png"), "--to loop/x.png", 2),
    (("compare", *OF_RUN[1:], "--sort", ""), "--sort", 2),
    (("compare", *OF_RUN[1:], "--only", "=x"), "--only =x", 2),
    (("compare", "--logs", "good/train/a/0.png"), "--logs good/train/a/0.png", 1),
    (("compare", "loop"), "loop is no folder", 1),
    (("clean", "--logs", "nowhere"), "--logs nowhere: there is no such folder", 1),
    (("clean", "--logs", "good/train/a/0.png"), "good/train/a/0.png", 1),
    (("clean", "--remove=yes"), "--remove", 2),
    (("export", *OF_RUN, "--to", "emptydir/"), "--to emptydir", 2),
    (("export", *OF_RUN, "--to", ""), '"": give a path', 2),
    (("export", *OF_RUN, "--to", "y.pt2", "--input", "int8"), "int8", 2),
    (("export", *OF_RUN, "--to", "y.pt2", "--images", "pictures/html.png"), "html.png", 1),
    # words and numbers
    (("Fit",), "did you mean fit?", 2),
    ((" ",), "there is no command", 2),
    (("fit test",), "no command fit test", 2),
    (("train",), "no command train", 2),
    (("x" * 5000,), "xxx", 2),
    (("fit", "fit"), "fit", 2),
    ((*FIT, "\N{EM DASH}data.batch_size", "3"), "\N{EM DASH}data.batch_size", 2),
    ((*FIT, "--Data.batch_size", "3"), "--Data.batch_size", 2),
    ((*FIT, "--data.batch-size", "3"), "did you mean --data.batch_size?", 2),
    ((*FIT, "--data..batch_size", "3"), "--data..batch_size", 2),
    ((*FIT, "--data.batch_size="), "--data.batch_size", 2),
    ((*FIT, "--data.batch_size", "0x10g"), "--data.batch_size 0x10g", 2),
    ((*FIT, "--data.batch_size", "inf"), "--data.batch_size inf", 2),
    ((*FIT, "--data.batch_size", "-0"), "data.batch_size 0", 2),
    ((*FIT, "--data.batch_size", "1,000"), "--data.batch_size 1,000", 2),
    ((*FIT, "--data.batch_size", "null"), "--data.batch_size", 2),
    ((*FIT, "--model.optimizer.lr", "0,01"), "0,01", 2),
    ((*FIT, "--model.optimizer.lr", "1e-400"), "lr 0", 2),
    ((*FIT, "--data.val_size", "50%"), "--data.val_size 50%", 2),
    ((*FIT, "--data.val_size", "nan"), "--data.val_size nan", 2),
    ((*FIT, "--trainer.max_epochs", "1e999"), "--trainer.max_epochs", 2),
    ((*FIT, "--trainer.limit_train_batches", "1.5"), "limit_train_batches", 2),
    ((*FIT, "--data.mean", "[a,b,c]"), "--data.mean", 2),
    ((*FIT, "--data.flip", "maybe"), "--data.flip maybe", 2),
    ((*FIT, "--data.source.size", "-50"), "data.source.size -50", 2),
    ((*FIT, "--trainer", "list.yaml"), "--trainer", 2),
    ((*FIT, "--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss",
      "--trainer.callbacks.mode", "up"), "up", 2),
]  # fmt: skip

# Of the same kinds, by other commands and of other files.
AGAIN: list[tuple[tuple[str, ...], str, int]] = [
    *[(words, "File name too long", 2) for words in [
        ("compare", LONG), ("compare", "--logs", LONG), ("test", "--ckpt_path", LONG),
        (*FIT, "--model.weights", LONG), (*PICTURES, LONG), (*IMAGES, LONG),
        ("export", *OF_RUN, "--to", f"{LONG}.pt2"),
    ]],
    *[((*FIT, "--model.weights", name), f"--model.weights {name}", 1) for name in (
        "loop", "pipe", "/dev/null", "cut.ckpt", "list.pt", "tensor.pt", "nothing.pt", "zip.ckpt",
        "empty.safetensors", "good/train/a/0.png", "emptydir",
    )],
    *[(words, f"{words[-1]}: this is an address", 2) for words in [
        ("compare", "--logs", URLS[0]),
        ("compare", *OF_RUN[1:], "--to", f"{URLS[1]}.png"),
        ("compare", URLS[2]),
        ("clean", "--logs", URLS[1]),
        ("clean", URLS[0]),
        ("export", *OF_RUN, "--to", f"{URLS[2]}.pt2"),
        ("export", "--to", "x.pt2", "--ckpt_path", URLS[0]),
        ("export", "--to", "x.pt2", "--logs", URLS[1]),
        ("export", *OF_RUN, "--to", "x.pt2", "--images", URLS[1]),
    ]],
    *[(("fit", "--ckpt_path", name), name, 1) for name in (
        *(name for name in CHECKPOINTS if name not in ("no_weights.ckpt", "text_classes.ckpt")),
        "bare.pt", "zip.ckpt", "cut.ckpt", "emptydir", "pipe", "broken",
    )],
]  # fmt: skip
AGAIN = [case for case in AGAIN if case not in ODD]


@pytest.fixture(scope="session")
def zoo(_finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of odd things, and a good run in ``run``; whoever looks must leave it as it is."""
    zoo = tmp_path_factory.mktemp("zoo")
    for name, content in CONFIGS.items():
        (zoo / name).write_bytes(content)
    for name in ("emptydir", "line\nend", "flat/train", "flat/test", "broken/checkpoints"):
        (zoo / name).mkdir(parents=True)
    (zoo / "loop").symlink_to("loop")
    os.mkfifo(zoo / "pipe")
    write_images(zoo / "flat/train/pictures/below", 1)
    for name, splits in (
        ("good", ("train", "test")), ("bad", ("train", "test")), ("capitals", ("Train", "Test")),
        ("apart", ("train", "test")),
    ):  # fmt: skip
        for split in splits:
            write_images(zoo / name / split / "a", 3)
            write_images(zoo / name / split / (split if name == "apart" else "b"), 3)
    (zoo / "bad/train/a/html.png").write_text("<html>")
    _write_pictures(zoo / "pictures")
    shutil.copytree(_finished_run, zoo / "run/version_0")
    _write_checkpoints(zoo, zoo / "run/version_0/checkpoints/last.ckpt")
    return zoo


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    (folder / "zero.png").write_bytes(b"")
    (folder / "html.png").write_text("<html>404</html>")
    (folder / "text.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.linear_gradient("L").save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:400])
    for name, side in (("bomb.png", 60_000), ("no_size.png", 0)):
        parts = (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"0")),
            (b"IEND", b""),
        )
        chunks = [
            struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in parts
        ]  # fmt: skip
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _write_checkpoints(zoo: Path, good: Path) -> None:
    content = torch.load(good, weights_only=True)
    for name, changes in CHECKPOINTS.items():
        changed = {**content, **changes}
        ours = changes.get("cifar_lightning")
        if isinstance(ours, dict):
            changed["cifar_lightning"] = {**content["cifar_lightning"], **ours}
        torch.save({k: v for k, v in changed.items() if v is not None}, zoo / name)
    torch.save(content["state_dict"], zoo / "bare.pt")
    torch.save([1, 2], zoo / "list.pt")
    torch.save(torch.zeros(3), zoo / "tensor.pt")
    torch.save({"epoch": 3}, zoo / "nothing.pt")
    (zoo / "cut.ckpt").write_bytes(good.read_bytes()[:3000])
    (zoo / "empty.safetensors").write_bytes(b"")
    (zoo / "broken/checkpoints/last.ckpt").write_bytes(b"")
    (zoo / "broken/checkpoints/epoch=0-val_acc=0.5000.ckpt").write_bytes(b"")
    with zipfile.ZipFile(zoo / "zip.ckpt", "w") as archive:
        archive.writestr("a.txt", "hello")


def _named(words: tuple[str, ...]) -> str:
    return repr(" ".join(words))[-40:]


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    paths = (p for p in folder.rglob("*") if "__pycache__" not in p.parts and p.name != ".lock")
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in paths if p.is_file()} | {
        str(p): (0, 0) for p in folder.rglob("*") if p.is_dir() and p.name != "__pycache__"
    }


def test_there_are_more_than_a_hundred() -> None:
    assert len(ODD) > 120
    every = [words for words, _, _ in (*ODD, *AGAIN)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("words", "part", "status"),
    [
        *(pytest.param(*case, id=_named(case[0])) for case in ODD[::2]),
        *(
            pytest.param(*case, id=_named(case[0]), marks=pytest.mark.slow)
            for case in (*ODD[1::2], *AGAIN)
        ),
    ],
)
def test_odd(words: tuple[str, ...], part: str, status: int, command: Command, zoo: Path) -> None:
    before = _state(zoo)
    ended = command(*words, folder=zoo)
    assert ended.status == status, ended
    assert part in one_sentence(ended)
    assert _state(zoo) == before


def test_odd_and_right(command: Command, zoo: Path, tmp_path: Path) -> None:
    """What is unusual, and means something."""
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfdata:\n  batch_size: 8\n")
    (tmp_path / "crlf.yaml").write_bytes(b"data:\r\n  batch_size: 8\r\n")
    (tmp_path / "anchor.yaml").write_text("data: {batch_size: &n 8, translate: *n}\n")
    (tmp_path / "merge.yaml").write_text("data:\n  <<: {batch_size: 8}\n  translate: 2\n")
    (tmp_path / "ünï cödé.yaml").write_text("data: {batch_size: 8}\n")
    for path in sorted(tmp_path.glob("*.yaml")):
        ended = command("fit", "--config", path.name, "--print_config")
        assert ended.status == 0, ended
        assert "batch_size: 8" in ended.stdout
    pictures = tmp_path / "line\nend"
    pictures.mkdir()
    colours = Image.effect_noise((50, 40), 60).convert("RGB")
    colours.save(pictures / "a\nb.png")
    colours.save(pictures / "moves.gif", save_all=True, append_images=[colours.rotate(90)])
    colours.convert("CMYK").save(pictures / "cmyk.jpg")
    colours.resize((1, 1)).save(pictures / "one.png")
    Image.new("I;16", (40, 40), 300).save(pictures / "sixteen.png")
    for size in ((10_000, 1), (1, 10_000)):
        Image.new("RGB", size).save(pictures / f"{size[0]}.png")
    run = shutil.copytree(zoo / "run/version_0", tmp_path / "ünï cödé/version_0")
    ended = command(
        "predict", "--ckpt_path", f"{run}/", "--data.images", f"{pictures}/", "line\nend/"
    )
    assert ended.status == 0, ended
    assert "pictures that are named again count once (7)" in ended.stderr
    assert ended.stdout.count("%") == 3 * 7
    (run / "config.yaml").unlink()
    ended = command("test", "--ckpt_path", str(run / "checkpoints/last.ckpt"))
    assert ended.status == 0, ended


def _shell(folder: Path, line: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which $P is the program."""
    program = f"{sys.executable} -m cifar_lightning"
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, capture_output=True,
        check=False, env={**os.environ, "PYTHONPATH": PYTHONPATH, "P": program, **environ},
    )  # fmt: skip


def test_where_it_prints(tmp_path: Path) -> None:
    full = "cifar_lightning: Standard output cannot be written (No space left on device).\n"
    for line, status, said in (
        ("$P --help >/dev/full", 1, full),
        ("$P compare --help >/dev/full", 1, full),
        ("$P --help >&-", 0, ""),
        ("$P --help | head -1", 0, ""),
        ("RANK=x $P compare", 1,
         "cifar_lightning: The environment variable RANK is 'x', no number: unset it.\n"),
        ("SLURM_PROCID=-1 $P fit", 1,
         "cifar_lightning: The environment variable SLURM_PROCID is '-1', no number: unset it.\n"),
        ("mkdir x; cd x; rmdir ../x; $P --help", 1,
         "cifar_lightning: The current folder has been removed: change to another one.\n"),
    ):  # fmt: skip
        ended = _shell(tmp_path, line)
        assert (ended.returncode, ended.stderr) == (status, said), line
    assert files(tmp_path) == {}


@pytest.mark.slow
def test_a_run_without_a_place_to_print(tmp_path: Path) -> None:
    flags = " ".join((*TINY, "--trainer.max_epochs", "1"))
    for line, status, said in (
        (f"$P fit {flags} >/dev/full", 1, "Standard output cannot be written"),
        (f"$P fit {flags} >&-", 0, ""),
        (f"env -u HOME PYTHONOPTIMIZE=2 LANG=C $P fit {flags}", 0, ""),
        ("$P fit --help >/dev/full", 1, "Standard output cannot be written"),
        ("$P compare --format json | head -1", 0, ""),
    ):
        ended = _shell(tmp_path, line)
        assert ended.returncode == status, ended
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
    assert (tmp_path / RUN / "checkpoints/last.ckpt").exists()
