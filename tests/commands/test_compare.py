"""``compare``, on crafted runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from helpers import one_sentence, rows
from PIL import Image
from program import Command


def craft(logs: Path, number: int, accuracies: list[float], **changes: Any) -> Path:
    """A run's folder; changes are dotted names of its configuration."""
    config: dict[str, Any] = {
        "seed_everything": 42,
        "data": {"source": {"class_path": "a.CIFAR10"}, "batch_size": 64, "val_size": 5000,
                 "seed": 42},
        "model": {"net": {"class_path": "b.AlexNet"}, "lr_scheduler": None,
                  "optimizer": {"class_path": "torch.optim.SGD",
                                "init_args": {"lr": 0.01, "momentum": 0.9}}},
        "trainer": {"max_epochs": 3, "precision": None, "max_steps": -1},
        "checkpoints": {"monitor": "val/acc"},
    }  # fmt: skip
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            config[part][key] = value
        else:
            config[name] = value
    run = logs / f"version_{number}"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = ["epoch,step,val/acc,train/acc_epoch,speed/seconds_per_epoch,speed/images_per_second"]
    for epoch, accuracy in enumerate(accuracies):
        step = 10 * (epoch + 1)
        rows += [f"{epoch},{step - 5},,,,{100 * (epoch + 1)}", f"{epoch},{step},{accuracy},,,"]
        rows += [f"{epoch},{step},,0.5,{epoch + 2}.0,"]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    return run


def rows_of(text: str) -> list[list[str]]:
    """The cells of a markdown table, without its first two lines."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_seeds_are_one_row(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    for seed, best in enumerate([0.70, 0.72, 0.77]):
        run = craft(logs, seed, [0.5, best, 0.6], seed_everything=seed)
        report = {"checkpoint": f"checkpoints/epoch=1-val_acc={best}.ckpt", "accuracy": best - 0.01}
        (run / "test_report.json").write_text(json.dumps(report))
        card = {
            "command": f"python -m cifar_lightning fit --seed_everything {seed}",
            "device": "a CPU",
            "network": {"parameters": 6616714, "flops_per_image": 128_077_376},
            "git": {"commit": "0123456789", "clean": seed > 0},
        }
        (run / "card.json").write_text(json.dumps(card))
    loss = {"class_path": "my_losses.Focal", "init_args": {"gamma": 2.0}}
    more = {"data__batch_size": 128, "trainer__precision": "bf16-mixed", "model__loss": loss}
    craft(logs, 3, [0.8, 0.9, 0.7], **more)
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    assert rows_of(ended.stdout) == [
        ["version_0, version_1, version_2 (3 seeds)", "AlexNet", "CIFAR10",
         "SGD lr 0.01 momentum 0.9, batch 64", "3", "73.00 ± 3.61 %", "72.00 ± 3.61 %", "",
         "", "", "3.0", "200", "a CPU", "6,616,714", "128", "0123456, 0123456+",
         "`fit --seed_everything N`"],
        ["version_3", "AlexNet", "CIFAR10",
         "SGD lr 0.01 momentum 0.9, batch 128, Focal gamma 2.0, bf16-mixed", "3", "90.00 %",
         "", "", "", "", "3.0", "200", "", "", "", "", ""],
    ]  # fmt: skip
    picture = Image.open(logs / "compare.png")
    assert picture.width == 2000
    assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_runs_of_every_state(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    craft(logs, 0, [0.5, 0.6, 0.7])
    craft(logs, 1, [0.5])
    running = craft(logs, 2, [0.5, 0.6])
    broken = craft(logs, 3, [0.5])
    (broken / "config.yaml").write_text("data: [")
    (logs / "version_4").mkdir()
    resumed = craft(logs, 5, [0.5, 0.6, 0.7, 0.75])
    config = yaml.safe_load((resumed / "config.yaml").read_text())
    config["trainer"]["max_epochs"] = 4
    (resumed / "config-resume-1.yaml").write_text(yaml.safe_dump(config))
    craft(logs, 6, [0.5, 0.6, 0.7], data__val_size=0)
    craft(logs, 7, [])
    with FileLock(running / ".lock"):
        ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    assert [(row[0], row[4], row[5] or f"{row[9]}*") for row in rows_of(ended.stdout)] == [
        ("version_0", "3", "70.00 %"),
        ("version_1 (interrupted)", "1", "50.00 %"),
        ("version_2 (running)", "2", "60.00 %"),
        ("version_5", "4", "75.00 %"),
        ("version_6", "3", "70.00 %*"),
        ("version_7 (interrupted)", "0", "*"),
    ]
    assert "* chosen on the test images" in ended.stdout
    left_out = ended.stderr.splitlines()
    assert len(left_out) == 2
    assert re.search("version_3 is left out", left_out[0])
    assert re.search("version_4 is left out", left_out[1])


DAMAGED_CARDS = (
    "", "{", "[1]", "null", '{"command": 3}', '{"command": null}', '{"network": null}',
    '{"network": "AlexNet"}', '{"network": {"parameters": "many"}}', '{"git": "0123"}',
    '{"git": {"commit": 12, "clean": true}}', '{"git": {"commit": "0", "clean": 1}}', '{"data": 4}',
    '{"started": [1]}', '{"network": {"flops_per_image": [1]}}', "\udcff", "[" * 100_000,
)  # fmt: skip


def test_a_damaged_run_is_its_own_affair(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    count = len(DAMAGED_CARDS)
    for number, text in enumerate(DAMAGED_CARDS):
        run = craft(logs, number, [0.5, 0.6, 0.7], seed_everything=number)
        (run / "card.json").write_bytes(text.encode(errors="surrogateescape"))
    for number, text in enumerate(("{", '{"accuracy": "much"}', "[]", "{}"), start=count):
        report = craft(logs, number, [0.5, 0.6, 0.7], seed_everything=number)
        (report / "test_report.json").write_text(text)
    for number, seed in enumerate(([1], "x", {"a": 1}), start=count + 4):
        craft(logs, number, [0.5, 0.6, 0.7], seed_everything=seed)
    craft(logs, count + 7, [0.5, 0.6, 0.7], model__warmup="long", model__lr_scheduler="a.B")
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended
    ((name, *_),) = rows_of(ended.stdout)
    assert name.endswith(f"version_{count + 3} ({count + 4} seeds)")
    said = [re.sub(r"lightning_logs/version_\d+", "RUN", line) for line in ended.stderr.split("\n")]
    assert sum(line.startswith("RUN/card.json is damaged and left out (") for line in said) == count
    quoted = "RUN/test_report.json is damaged and not quoted ("
    assert sum(line.startswith(quoted) for line in said) == 3
    assert sum(line.startswith("RUN is left out: it cannot be read as a run") for line in said) == 4
    assert len(said) == count + 3 + 4 + 1


def test_configs_of_earlier_versions(command: Command, tmp_path: Path) -> None:
    """What they do not have is as if it were null."""
    logs = tmp_path / "lightning_logs"
    craft(logs, 0, [0.5, 0.6, 0.7], model__warmup=None, data__source={"class_path": "a.CIFAR10"})
    few = {"max_epochs": 3, "max_steps": -1}
    craft(logs, 1, [0.5, 0.6, 0.8], seed_everything=7, trainer=few)
    old = craft(logs, 2, [0.5, 0.6, 0.9])
    (old / "config.yaml").write_text("model: {net: {class_path: b.AlexNet}}\ndata: {source: x.Y}")
    unlike = craft(logs, 3, [])
    (unlike / "config.yaml").write_text("model: 7\ndata: [1]")
    crooked = craft(logs, 4, [])
    (crooked / "metrics.csv").write_text("epoch,step,val/acc\n0,1,0.5,0.5,0.5\n")
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    best = {row[0]: (row[1], row[2], row[5]) for row in rows_of(ended.stdout)}
    assert best == {
        "version_0, version_1 (2 seeds)": ("AlexNet", "CIFAR10", "75.00 ± 7.07 %"),
        "version_2 (interrupted)": ("AlexNet", "Y", "90.00 %"),
    }
    assert [line.split(" is left out")[0] for line in ended.stderr.splitlines()] == [
        str(run.relative_to(tmp_path)) for run in (unlike, crooked)
    ]


def test_the_epoch_that_was_kept(command: Command, tmp_path: Path) -> None:
    run = craft(tmp_path / "lightning_logs", 0, [], checkpoints={"monitor": "val/loss"})
    rows = ["epoch,step,val/acc,val/loss", "0,10,0.8,1.5", "1,20,0.7,0.5", "2,30,0.9,0.9"]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    ended = command("compare", "version_0", "--format", "md", "--to", "x.png")
    assert ended.status == 0, ended.stderr
    assert rows_of(ended.stdout)[0][5] == "70.00 %"
    assert (tmp_path / "x.png").exists()


def test_a_real_run(command: Command, run: Path) -> None:
    assert command("test").status == 0
    ended = command("compare")
    assert ended.status == 0, ended.stderr
    header, row = ended.stdout.splitlines()[:2]
    assert header.split("  ")[0] == "run"
    assert row.startswith("version_0  Tiny     Shapes  SGD lr 0.01 momentum 0.9, batch 32  3 ")
    assert "1,930" in row


@pytest.mark.parametrize(
    ("arguments", "part", "status"),
    [
        ((), "lightning_logs holds no run", 1),
        (("version_9",), "version_9 is no folder", 1),
        (("--format", "html"), "--format", 2),
        (("--nope",), "--nope", 2),
        (("--only",), "--only", 2),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], part: str, status: int, command: Command) -> None:
    ended = command("compare", *arguments)
    assert ended.status == status
    assert part in one_sentence(ended)


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    craft(tmp_path / "lightning_logs", 0, [0.5])
    program = [sys.executable, "-u", "-m", "cifar_lightning", "compare"]
    with subprocess.Popen(
        program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compare"]])
def test_answers_without_torch(arguments: list[str], tmp_path: Path) -> None:
    craft(tmp_path / "lightning_logs", 0, [0.5])
    code = (
        "import sys; from cifar_lightning.__main__ import main; "
        "main(); sys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, check=False)
    assert ended.returncode == 0


def test_equal_images_in_different_places_are_one_experiment(
    command: Command, tmp_path: Path
) -> None:
    logs = tmp_path / "lightning_logs"
    for number, images in enumerate(["crc32 1", "crc32 1", "crc32 2"]):
        source = {"class_path": "ImageFolder", "init_args": {"root": f"/data/{number}"}}
        run = craft(logs, number, [0.5, 0.6, 0.7], data__source=source, seed_everything=number)
        (run / "card.json").write_text(json.dumps({"data": {"training_images": images}}))
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    names = [row[0] for row in rows_of(ended.stdout)]
    assert names == ["version_0, version_1 (2 seeds)", "version_2"]


def end(run: Path, ended_by: str | None) -> Path:
    (run / "summary.json").write_text(json.dumps({"ended_by": ended_by}))
    return run


def test_a_seed_counts_once(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    for number, (seed, best) in enumerate([(1, 0.6), (2, 0.7), (1, 0.8)]):
        run = craft(logs, number, [0.5, best, 0.55], seed_everything=seed)
        report = {"checkpoint": f"checkpoints/epoch=1-val_acc={best}.ckpt", "accuracy": best}
        if number:
            (run / "test_report.json").write_text(json.dumps(report))
    third = craft(logs, 3, [0.5, 0.9, 0.6], seed_everything=3)
    shutil.copytree(third, logs / "version_4")
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    (row,) = rows_of(ended.stdout)
    name, best_held_out, tested = row[0], *row[5:7]
    assert name == (
        "version_2, version_1, version_4 (3 seeds; seed repeated by version_0, version_3)"
    )
    # the copy has no test of its own either
    assert (best_held_out, tested) == ("80.00 ± 10.00 %", "75.00 ± 7.07 % (2 of 3)")
    assert [line.replace("lightning_logs/", "") for line in ended.stderr.splitlines()] == [
        "version_0 repeats seed 1 of version_2: it is not counted.",
        "version_3 is a copy of version_4: it is not counted.",
    ]


def test_the_newer_run_is_the_one_that_was_started_later(command: Command, tmp_path: Path) -> None:
    for folder, started in (("new", "2026-02-02T10:00:00"), ("old", "2026-02-01T10:00:00")):
        run = craft(tmp_path / folder, 0, [0.5, 0.6, 0.7 + 0.1 * (folder == "new")])
        (run / "card.json").write_text(json.dumps({"started": started}))
    ended = command("compare", "new/version_0", "old/version_0", "--format", "md")
    assert ended.status == 0, ended.stderr
    assert [(row[0], row[5]) for row in rows_of(ended.stdout)] == [
        ("new/version_0 (seed repeated by old/version_0)", "80.00 %")
    ]


def test_a_folder_counts_once(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    run = craft(logs, 0, [0.5, 0.6, 0.7])
    (logs / "version_1").symlink_to(run)
    paths = ("version_0", "lightning_logs/version_0", str(run), "lightning_logs/version_1")
    ended = command("compare", *paths, "--format", "md")
    assert ended.status == 0, ended.stderr
    assert [(row[0], row[5]) for row in rows_of(ended.stdout)] == [("version_0", "70.00 %")]
    assert len(re.findall("is lightning_logs/version_0 once more", ended.stderr)) == 3


def test_what_ended_a_run_says_whether_it_joins_its_seeds(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    ends = ["early stopping", "epochs", "steps", "time", "pause", "signal", None]
    for number, ended_by in enumerate(ends):
        epochs = [0.5, 0.6, 0.7][: 2 + (number > 0)]
        end(craft(logs, number, epochs, seed_everything=number), ended_by)
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    assert [(row[0], row[4]) for row in rows_of(ended.stdout)] == [
        ("version_0, version_1, version_2 (3 seeds)", "2–3"),
        ("version_3 (ended by time)", "3"),
        ("version_4 (interrupted)", "3"),
        ("version_5 (interrupted)", "3"),
        ("version_6 (interrupted)", "3"),
    ]


def test_a_run_that_was_changed_half_way_stands_alone(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    longer = {"trainer": {"max_epochs": 3, "max_steps": -1, "precision": None, "max_time": None}}
    changes: list[dict[str, Any]] = [
        {}, {"trainer": {**longer["trainer"], "max_epochs": 2}},
        {"trainer": {**longer["trainer"], "precision": "bf16-mixed"}},
    ]  # fmt: skip
    for number, change in enumerate(changes):
        run = craft(logs, number, [0.5, 0.6, 0.7], seed_everything=number, **longer)
        last = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump({**last, **change, "ckpt_path": None}))
        (run / "config-resume-1.yaml").write_text(yaml.safe_dump({**last, "ckpt_path": "x"}))
    ended = command("compare", "--format", "md")
    assert ended.status == 0, ended.stderr
    assert [row[0] for row in rows_of(ended.stdout)] == [
        "version_0, version_1 (2 seeds)",
        "version_2 (options changed half-way)",
    ]


def test_raw_numbers_for_scripts(command: Command, tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    for number, (seed, best) in enumerate([(1, 0.6), (2, 0.7), (1, 0.8)]):
        run = craft(logs, number, [0.5, best, 0.55][: 2 + number], seed_everything=seed)
        end(run, "early stopping")
        report = {"checkpoint": f"checkpoints/epoch=1-val_acc={best}.ckpt", "accuracy": best}
        if number:
            (run / "test_report.json").write_text(json.dumps(report))
    craft(logs, 3, [0.5, 0.6, 0.7], data__val_size=0, run_name="after; the article")
    ended = command("compare", "--format", "json")
    assert ended.status == 0, ended.stderr
    ours, article = json.loads(ended.stdout)
    assert ours["runs"] == ["version_2", "version_1"]
    assert (ours["seeds"], ours["n"], ours["repeated_by"]) == ([1, 2], 2, ["version_0"])
    assert (ours["epochs_min"], ours["epochs"], ours["status"]) == (3, 3, "finished")
    assert ours["best_val_mean"] == pytest.approx(0.75)
    assert ours["best_val_std"] == pytest.approx(0.1 / 2**0.5)
    assert (ours["best_val_n"], ours["test_n"]) == (2, 2)
    assert (ours["article_protocol_n"], ours["article_protocol_mean"]) == (0, None)
    # what was chosen on the test images is in no column with what was not
    assert (article["best_val_n"], article["best_val_mean"], article["test_mean"]) == (
        0,
        None,
        None,
    )
    assert (article["article_protocol_mean"], article["article_protocol_std"]) == (0.7, None)
    assert article["name"] == "after; the article"
    assert "curves: " in ended.stderr
    assert (logs / "compare.png").exists()

    ended = command("compare", "--format", "csv", out=".csv")
    assert ended.status == 0, ended.stderr
    table = rows(tmp_path / ".csv.stdout")
    assert [row["runs"] for row in table] == ["version_2; version_1", "version_3"]
    assert float(table[0]["best_val_mean"]) == ours["best_val_mean"]
    assert list(table[0]) == list(ours)
    assert (table[1]["best_val_mean"], table[1]["n"]) == ("", "1")


def several_experiments(logs: Path) -> None:
    for number, (net, lr, best) in enumerate(
        [("b.AlexNet", 0.01, 0.6), ("b.LeNet5", 0.1, 0.9), ("b.AlexNet", 0.1, 0.8)]
    ):
        optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": lr}}
        run = craft(
            logs, number, [0.5, best, 0.55], model__net={"class_path": net},
            model__optimizer=optimizer, **({"run_name": "wide | deep"} if number == 2 else {}),
        )  # fmt: skip
        (run / "card.json").write_text(json.dumps({"network": {"parameters": 100 - number}}))
    interrupted = craft(logs, 3, [0.5])
    (interrupted / "card.json").write_text("{}")


def test_sorted_and_chosen(command: Command, tmp_path: Path) -> None:
    several_experiments(tmp_path / "lightning_logs")

    def runs(*arguments: str) -> list[str]:
        ended = command("compare", "--format", "json", *arguments)
        assert ended.status == 0, ended.stderr
        return [number.removeprefix("version_") for row in json.loads(ended.stdout)
                for number in row["runs"]]  # fmt: skip

    assert runs("--sort", "run") == ["0", "1", "2", "3"]
    assert runs("--sort", "Best val") == ["1", "2", "0", "3"]
    assert runs("--sort", "parameters") == ["2", "1", "0", "3"]
    assert runs("--sort", "images/s") == ["0", "1", "2", "3"]
    assert runs("--sort", "network") == ["0", "2", "3", "1"]
    assert runs("--only", "network=alexnet") == ["0", "2", "3"]
    assert runs("--only", "network=*net*", "model.optimizer.lr=1e-1") == ["1", "2"]
    assert runs("--only", "model.net=LeNet5", "--only", "status=finished") == ["1"]
    assert runs("--only", "name=wide*") == ["2"]
    assert runs("--only", "recipe=*lr 0.01*", "model.lr_scheduler=null") == ["0", "3"]
    assert runs("--only", "run_name=null") == ["0", "1", "3"]


def test_time_to_an_accuracy(command: Command, tmp_path: Path) -> None:
    """An epoch of these takes 2, 3 and 4 s."""
    logs = tmp_path / "lightning_logs"
    for seed, accuracies in enumerate([[0.5, 0.7, 0.8], [0.7, 0.6, 0.9], [0.5, 0.6, 0.69]]):
        craft(logs, seed, accuracies, seed_everything=seed)
    muon = {"class_path": "a.MuonSGD", "init_args": {"lr": 0.02, "sgd_lr": 0.1, "momentum": 0.9}}
    fast = craft(logs, 3, [0.6, 0.7, 0.7], model__optimizer=muon)
    rows = (fast / "metrics.csv").read_text().replace("0.5,2.0,", "0.5,,")  # was interrupted
    (fast / "metrics.csv").write_text(rows)
    ended = command("compare", "--format", "json", "--reach", "0.7", "--sort", "s to reach")
    assert ended.status == 0, ended.stderr
    found = [(r["runs"], r["seconds_to_reach"], r["seconds_to_reach_n"])
             for r in json.loads(ended.stdout)]  # fmt: skip
    assert found == [(["version_0", "version_1", "version_2"], 3.5, 2), (["version_3"], 6.5, 1)]
    table = command("compare", "--reach", "0.7").stdout
    assert "4 (2 of 3)" in table
    assert "MuonSGD lr 0.02 sgd_lr 0.1 momentum 0.9, batch 64" in table
    assert command("compare", "--reach", "0.95").stdout.count("not reached") == 2
    for wrong in (("--reach", "74"), ("--reach", "much"), ("--sort", "s to reach")):
        ended = command("compare", *wrong)
        assert ended.status == 2
        assert wrong[0] in one_sentence(ended)


def test_what_was_chosen_on_nothing_is_final(command: Command, tmp_path: Path) -> None:
    run = craft(tmp_path / "lightning_logs", 0, [0.5, 0.6], data__val_size=None)
    (run / "metrics.csv").write_text("epoch,step,train/acc_epoch\n0,10,0.5\n1,20,0.6\n2,30,0.6\n")
    (run / "summary.json").write_text(json.dumps({"ended_by": "epochs", "global_step": 30}))
    report = {"checkpoint": "checkpoints/last.ckpt", "accuracy": 0.8, "global_step": 30}
    (run / "test_report.json").write_text(json.dumps(report))
    ended = command("compare", "--format", "json")
    assert ended.status == 0, ended.stderr
    (row,) = json.loads(ended.stdout)
    assert (row["final_mean"], row["test_mean"], row["best_val_mean"]) == (0.8, None, None)


def test_names_of_runs(command: Command, tmp_path: Path) -> None:
    several_experiments(tmp_path / "lightning_logs")
    ended = command("compare")
    assert ended.stdout.splitlines()[0].split()[:2] == ["run", "name"]
    assert [line for line in ended.stdout.splitlines() if "wide | deep" in line]
    ended = command("compare", "--format", "md")
    assert r"| version_2 | wide \| deep | AlexNet |" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "parts", "status"),
    [
        (("--sort", "tset"), ("--sort tset", "did you mean test?", "s/epoch"), 2),
        (("--sort", "speed of it"), ("no such column;", "images/s"), 2),
        (("--only", "network"), ("--only network", "NAME=VALUE"), 2),
        (("--only", "colour=red"), ("no run has a colour", "recipe", "model.optimizer.lr"), 2),
        (("--only", "network=VGG19"), ("network of the runs is AlexNet, LeNet5",), 1),
    ],
)
def test_what_cannot_be_sorted_or_chosen(
    arguments: tuple[str, ...], parts: tuple[str, ...], status: int, command: Command,
    tmp_path: Path,
) -> None:  # fmt: skip
    several_experiments(tmp_path / "lightning_logs")
    ended = command("compare", *arguments)
    assert ended.status == status
    sentence = one_sentence(ended)
    assert all(part in sentence for part in parts), sentence
    assert not (tmp_path / "lightning_logs/compare.png").exists()
