"""``clean``: what it frees, and what it never touches."""

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import files, one_sentence
from program import Command

LAST = "checkpoints/last.ckpt"


@pytest.fixture
def logs(run: Path) -> Path:
    """Runs of every state, the newest of them finished."""
    logs = run.parent
    for number in range(1, 8):
        shutil.copytree(run, logs / f"version_{number}")
    for number, ended_by in ((1, "signal"), (2, "time")):
        summary = json.loads((run / "summary.json").read_text())
        text = json.dumps({**summary, "ended_by": ended_by})
        (logs / f"version_{number}/summary.json").write_text(text)
    next((logs / "version_3").glob("checkpoints/epoch=*")).unlink()
    best = next((logs / "version_4").glob("checkpoints/epoch=*"))
    best.write_bytes(best.read_bytes()[:-1000])
    (logs / "version_5/config.yaml").write_text("data: [")
    return logs


def test_only_what_no_run_needs(command: Command, logs: Path) -> None:
    before = files(logs)
    running = logs / "version_6"
    with FileLock(running / ".lock"):
        ended = command("clean")
        assert ended.status == 0, ended.stderr
        assert f"lightning_logs/version_0/{LAST}  0." in ended.stdout
        assert "MB in 1 file: add --remove" in ended.stdout
        kept = [line.split("version_")[1] for line in ended.stderr.splitlines()]
        assert [line[0] for line in kept] == ["1", "2", "3", "4", "5", "6", "7"]
        for line, why in zip(
            kept,
            ("is interrupted", "max_time", "no checkpoint", "damaged", "read", "running", "newest"),
            strict=True,
        ):
            assert why in line
        assert {path for path in files(logs) if path.name != ".lock"} == {
            path for path in before if path.name != ".lock"
        }
        ended = command("clean", "--remove")
    assert ended.status == 0, ended.stderr
    assert ended.stdout.endswith("MB in 1 file removed\n")
    gone = before.keys() - files(logs).keys()
    assert {path for path in gone if path.name != ".lock"} == {logs / "version_0" / LAST}
    listed = command("clean", "version_6", str(logs / "version_7")).stdout  # nobody trains it now
    assert [line.split()[0] for line in listed.splitlines()[:-1]] == [
        f"lightning_logs/version_6/{LAST}"
    ]


def test_a_run_that_was_cleaned(command: Command, run: Path) -> None:
    shutil.copytree(run, run.with_name("version_1"))
    best = next(run.glob("checkpoints/epoch=*"))
    (run / "summary.json").write_text(
        (run / "summary.json").read_text().replace('"global_step": 24', '"global_step": 25')
    )  # whichever epoch is the best, there was more
    assert command("clean", "--remove", "version_0").status == 0
    assert not (run / LAST).exists()
    assert command("test", "--ckpt_path", str(best)).status == 0
    before = files(run)
    ended = command("fit", "--ckpt_path", str(best), "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    assert "this run branches off" in ended.stderr
    assert (run.with_name("version_2") / LAST).exists()
    assert files(run) == before


def test_wrong_usage(command: Command, run: Path) -> None:
    ended = command("clean", "version_9")
    assert ended.status == 1
    assert "version_9 is no folder of a run" in one_sentence(ended)
    ended = command("clean", "--rm")
    assert ended.status == 2
    assert "--rm" in one_sentence(ended)
