"""Sweeps: killed, shared out, gone on with, and what they say."""

import os
import random
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import optuna
import program
import pytest
import yaml
from helpers import TINY, assert_equal, one_sentence, outcome
from optuna.trial import FrozenTrial, TrialState
from program import Command, Finished

SPACE = """\
model.optimizer.lr: {low: 1e-3, high: 0.5, log: true}
data:
  batch_size: [16, 32]
"""
FLAGS = (
    "--model.net", "stand_ins.Tiny", "--data.source", "Shapes", "--data.source.size", "300",
    "--data.val_size", "50", "--data.flip", "true", "--trainer.max_epochs", "2",
    "--trainer.accelerator", "cpu", "--dashboard.pictures_every_n_epochs", "0",
    "--model.lr_scheduler", "LinearLR", "--model.lr_scheduler.total_iters", "-1",
    "--model.lr_scheduler_interval", "step", "--model.warmup", "0.3",
)  # fmt: skip
TRIALS = ("--trials", "4", "--keep", "all")
FOLDER = Path("lightning_logs/sweeps/space")

# Kills its process before its n-th change of something on the disk; says how many there were.
KILLER = """
import os, signal, sys

left, done = int(os.environ["KILL_AT"]), 0
CHANGES = ("os.rename", "os.mkdir", "os.remove")
locks = "KILL_IN_LOCKS" in os.environ  # 15 s later others take such a lock away

def hook(event, arguments):
    global done
    changes = event in CHANGES or event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if changes and (locks or not any(n in str(arguments[0]) for n in ("journal", "deciding"))):
        done += 1
        if done == left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
from cifar_lightning.__main__ import main
main()
open(os.environ["CHANGES"], "w").write(str(done))
"""


def trials_of(folder: Path) -> list[FrozenTrial]:
    """What Optuna reads of a sweep."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / FOLDER / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="space", storage=storage).trials


def jobs_of(folder: Path) -> dict[tuple[int, int, int], tuple[dict[str, Any], float | None]]:
    """Configuration and accuracy of each job that was done, by number, epochs and seed."""
    return {
        tuple(t.user_attrs[name] for name in ("configuration", "epochs", "seed")): (
            t.params,
            t.value,
        )
        for t in trials_of(folder)
        if t.state == TrialState.COMPLETE
    }


def run_of(folder: Path, configuration: int) -> Path:
    """The folder of a configuration's run."""
    of = [t.user_attrs for t in trials_of(folder) if t.state == TrialState.COMPLETE]
    names = {attributes["run"] for attributes in of if attributes["configuration"] == configuration}
    assert len(names) == 1
    return folder / FOLDER / str(names.pop())


def winner_of(stdout: str) -> int:
    return int(re.search(r"\ntrial +run .*\n(\d+) ", stdout)[1])  # type: ignore[index]


@pytest.fixture(scope="session")
def _whole(
    fork_server: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "space.yaml").write_text(SPACE)
    (folder / "killer.py").write_text(KILLER)
    ended = program.run(
        fork_server, "sweep", "space.yaml", *TRIALS, *FLAGS,
        folder=folder, out=folder / ".out", script=str(folder / "killer.py"),
        KILL_AT="0", CHANGES="changes",
    )  # fmt: skip
    assert ended.status == 0, ended
    return folder, ended


@pytest.fixture
def whole(_whole: tuple[Path, Finished]) -> tuple[Path, Finished]:
    """A sweep that was not interrupted, to be read alone, and how it ended."""
    folder, ended = _whole
    return folder, ended


@pytest.fixture
def own(whole: tuple[Path, Finished], tmp_path: Path) -> Path:
    """A copy of it in ``tmp_path``."""
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_lines_and_files(whole: tuple[Path, Finished]) -> None:
    folder, ended = whole
    jobs = jobs_of(folder)
    assert {job[:2] for job in jobs} >= {(n, 1) for n in range(4)}
    assert sum(job[1] == 2 for job in jobs) in (1, 2)
    assert len(
        re.findall(r"(?m)^trial \d +epoch \d/2 +val/acc [\d.]+%  \d\. of", ended.stdout)
    ) == len(jobs)
    assert ended.stderr == ""
    best = yaml.safe_load((folder / FOLDER / "best.yaml").read_text())
    params, _ = jobs[winner_of(ended.stdout), 2, 42]
    assert best["model"]["optimizer"]["init_args"]["lr"] == params["model.optimizer.lr"]
    assert best["trainer"]["max_epochs"] == 2
    assert (folder / FOLDER / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_winner_is_its_command_typed_by_hand(
    whole: tuple[Path, Finished], command: Command, tmp_path: Path
) -> None:
    folder, ended = whole
    threads, *words = shlex.split(re.search(r"by hand +(.*)", ended.stdout)[1])  # type: ignore[index]
    assert threads == f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', os.cpu_count())}"
    assert words[:4] == ["python", "-m", "cifar_lightning", "fit"]
    assert command(*words[3:]).status == 0
    by_hand = outcome(tmp_path / "lightning_logs/version_0")
    assert_equal(outcome(run_of(folder, winner_of(ended.stdout))), by_hand)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 15))]
)
def test_killed_anywhere(
    seed: int, whole: tuple[Path, Finished], command: Command, tmp_path: Path
) -> None:
    """Before any change on the disk; in the fast test none while a lock is held that others have
    to take away then."""
    folder, ended = whole
    (tmp_path / "space.yaml").write_text(SPACE)
    changes, numbers, kills = int((folder / "changes").read_text()), random.Random(seed), 0
    for part in (0.3, 0.6, 0.9):
        at = numbers.randrange(int(part * changes)) + 1
        how = {"script": str(folder / "killer.py"), "KILL_AT": str(at), "CHANGES": "changes"}
        how |= {"KILL_IN_LOCKS": "1"} if seed else {}
        killed = command("sweep", "space.yaml", *TRIALS, *FLAGS, **how)
        assert killed.status in (-9, 0), killed
        kills += killed.status == -9
    assert kills
    again = command("sweep", "space.yaml", *TRIALS, *FLAGS)
    assert again.status == 0, again
    assert jobs_of(tmp_path) == jobs_of(folder)
    winner = winner_of(again.stdout)
    assert winner == winner_of(ended.stdout)
    assert_equal(outcome(run_of(tmp_path, winner)), outcome(run_of(folder, winner)))


def test_three_workers(command: Command, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    flags = ("sweep", "space.yaml", "--trials", "6", "--seeds", "2", *FLAGS)
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda n: command(*flags, out=f".out{n}"), range(3)))
    assert [one.status for one in ended] == [0, 0, 0], ended
    assert len({winner_of(one.stdout) for one in ended}) == 1
    done = [t for t in trials_of(tmp_path) if t.state == TrialState.COMPLETE]
    assert len(done) == len(jobs_of(tmp_path)) == len(trials_of(tmp_path))  # none twice, none lost
    params = {t.user_attrs["configuration"]: tuple(t.params.values()) for t in done}
    assert len(set(params.values())) == len(params) == 6
    both = {t.user_attrs["seed"] for t in done if t.user_attrs["epochs"] == 2}
    assert both == {42, 43}
    lines = [line for one in ended for line in one.stdout.splitlines() if " epoch " in line]
    assert len(lines) == len(done)


def test_more_trials_by_name(own: Path, command: Command) -> None:
    before = jobs_of(own)
    ended = command("sweep", "space", "--trials", "5")
    assert ended.status == 0, ended
    after = jobs_of(own)
    assert after.items() >= before.items()
    assert {job[0] for job in after} == set(range(5))
    kept = {path.parents[1] for path in own.glob(f"{FOLDER}/*/checkpoints/*")}
    assert kept == {run_of(own, winner_of(ended.stdout))}  # those that lost have none any more
    shown = command("sweep", "space", "--show")
    assert shown.stdout.strip() in ended.stdout
    shutil.rmtree(run_of(own, winner_of(ended.stdout)))
    assert "the run of the best trial, is gone" in one_sentence(command("sweep", "space"))
    assert command("sweep", "other", "--show").status == 2
    assert not (own / "lightning_logs/sweeps/other").exists()


def test_other_commands(own: Path, command: Command) -> None:
    ended = command("fit", "--ckpt_path", "last")
    assert "no run under lightning_logs has a checkpoint" in one_sentence(ended)
    compared = command("compare", "--logs", str(FOLDER))
    assert compared.status == 0, compared
    assert "space-0" in compared.stdout
    ended = command(
        "fit", *TINY, "--config", str(FOLDER / "best.yaml"), "--trainer.max_epochs", "1"
    )
    assert ended.status == 0, ended


def test_diverging_is_bad_not_the_end(command: Command, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("model.optimizer.lr: [0.01, 2.0e+38, 3.0e+38]")
    ended = command("sweep", "space.yaml", *FLAGS)
    assert ended.status == 0, ended
    assert len(re.findall(r"trial \d +diverged: ", ended.stdout)) == 2
    assert {job[0] for job in jobs_of(tmp_path)} == {winner_of(ended.stdout)}
    (tmp_path / "space.yaml").write_text("model.optimizer.lr: [2.0e+38, 3.0e+38]")
    ended = command("sweep", "space.yaml", *FLAGS, "--name", "all")
    assert "All 2 trials of lightning_logs/sweeps/all have diverged" in one_sentence(ended)


def test_what_fails_in_combination_is_a_bad_trial(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, width=8, depth=1):\n"
        "    assert depth < 2 or width > 4, 'too thin'\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))\n"
    )
    (tmp_path / "space.yaml").write_text("model.net: {width: [8, 4], depth: [1, 2]}")
    mine = (*FLAGS, "--model.net", "mine.net", "--trainer.max_epochs", "1")
    ended = command("sweep", "space.yaml", *mine)
    assert ended.status == 0, ended
    assert len(re.findall(r"trial \d +failed: .*too thin", ended.stdout)) == 1
    assert len(jobs_of(tmp_path)) == 3
    (tmp_path / "space.yaml").write_text("model.net.width: [1, 2, 3, 4]")
    ended = command("sweep", "space.yaml", *mine, "--name", "b", "--model.net.depth", "2")
    assert "space.yaml: " in one_sentence(ended)
    assert "too thin" in one_sentence(ended)


def test_full_disk(command: Command, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    flags = ("sweep", "space.yaml", "--trials", "2", *FLAGS)
    ended = command(*flags, limit_file_size=20_000)
    assert "Trial 0 " in one_sentence(ended)
    ended = command(*flags)
    assert ended.status == 0, ended
    assert {job[0] for job in jobs_of(tmp_path)} == {0, 1}


def test_half_a_line_of_the_journal(own: Path, command: Command) -> None:
    with (own / FOLDER / "journal.log").open("a") as journal:
        journal.write('{"op_code":8,"work')
    ended = command("sweep", "space", "--trials", "5")
    assert ended.status == 0, ended
    assert {job[0] for job in jobs_of(own)} == set(range(5))


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL])
def test_a_worker_that_was_killed_while_it_took_a_job(
    state: TrialState, own: Path, command: Command
) -> None:
    """Before Optuna wrote the job's values; after it was taken from another who was killed."""
    params = {"model.optimizer.lr": 0.0123, "data.batch_size": 16}
    job = {"configuration": 4, "epochs": 1, "seed": 42, "run": None, "params": params}
    backend = optuna.storages.journal.JournalFileBackend(str(own / FOLDER / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    optuna.load_study(study_name="space", storage=storage).enqueue_trial(params, user_attrs=job)
    claimed = trials_of(own)[-1]
    assert storage.set_trial_state_values(claimed._trial_id, state)
    ended = command("sweep", "space", "--trials", "5")
    assert ended.status == 0, ended
    assert jobs_of(own)[4, 1, 42][0] == params


@pytest.mark.slow
def test_database(command: Command, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    flags = ("sweep", "space.yaml", "--trials", "1", *FLAGS, "--storage")
    assert command(*flags, "sqlite:///s.db").status == 0
    study = optuna.load_study(study_name="space", storage=f"sqlite:///{tmp_path}/s.db")
    assert len(study.trials) == 2
    assert "--storage nosuch://x cannot be used" in one_sentence(command(*flags, "nosuch://x"))


WRONG = [
    (SPACE, ("--trials", "0"), "--trials: 0 must be a whole number from 1 on"),
    (SPACE, ("--rungs", "3,1"), "3,1 must ascend"),
    (SPACE, ("--rungs", "9"), "--rungs 9: a whole run has 2 epochs"),
    (SPACE, ("--sampler", "grid"), "invalid choice: 'grid'"),
    (SPACE, ("--model.optimizer.lr", "0.1"), "--model.optimizer.lr is in space.yaml, too"),
    (SPACE, ("--ckpt_path", "last"), "--ckpt_path does not go with sweep"),
    (SPACE, ("--data.val_size", "0"), "trials are ranked by held-out images"),
    (SPACE, ("--trainer.max_epochs", "-1"), "the whole run, which must have an end"),
    (SPACE, ("--trainer.devices", "2"), "Each trial runs on one device"),
    (SPACE, ("--trainer.check_val_every_n_epoch", "2"), "trials are ranked after epoch 1"),
    (SPACE, ("--model.nett", "AlexNet"), "there is no option --model.nett"),
    (SPACE, ("--name", "a/b"), "--name a/b: take letters"),
    ("", (), "is empty"),
    ("- 1", (), "holds no space"),
    ("model.optimizer.lr: 0.1", (), "give a list of values, or {low, high}"),
    ("model.optimizer.lr: []", (), "give a list of values, or {low, high}"),
    ("model.optimizer.lr: {low: 1, hihg: 2}", (), "give a list of values, or {low, high}"),
    ("model.optimizer.lr: {low: 1, high: 1}", (), "low 1 must be below high 1"),
    ("model.optimizer.lr: {low: 0, high: 1, log: true}", (), "low 0 must be above 0 with log"),
    ("model.optimizer.lr: {low: a, high: 1}", (), "low a must be a number"),
    ("model.optimizer.lr: {low: 0.1, high: 1, step: -1}", (), "a step must be above 0"),
    ("model.optimizer.lr: [0.1, 0.1]", (), "a value stands twice"),
    ("model.optimizer.lr: [0.1, fast]", (), "space.yaml: --model.optimizer.lr fast: must be"),
    ("model.optimizer.mass: [0.1]", (), "space.yaml: "),
    ("model.nett: [AlexNet]", (), "there is no option --model.nett"),
    ("trainer.max_epochs: [1, 2]", (), "trainer.max_epochs cannot be searched over"),
    ("seed_everything: [1, 2]", (), "--seeds says how many"),
    ("trainer.devices: [1, 2]", (), "it does not change what is trained"),
    ("data.translate: [1]", ("--trainer.max_steps", "9"), "--trainer.max_steps does not go with"),
    ("model.optimizer.lr: [1]\nmodel.optimizer.lr: [2]", (), "stands twice"),
]


@pytest.mark.parametrize("cases", [WRONG[0::2], WRONG[1::2]], ids=["even", "odd"])
def test_one_sentence_before_anything_runs(
    cases: list[Any], command: Command, tmp_path: Path
) -> None:
    for space, flags, said in cases:
        (tmp_path / "space.yaml").write_text(space)
        ended = command("sweep", "space.yaml", *FLAGS, *flags)
        assert said in one_sentence(ended), flags
        assert ended.status == 2, flags
        assert not (tmp_path / "lightning_logs").exists(), flags


def test_another_sweep_under_its_name(own: Path, command: Command) -> None:
    for flags in (
        ("--rungs", "2"),
        ("--data.val_size", "60"),
        ("--seeds", "2"),
        ("--sampler", "random"),
    ):
        ended = command("sweep", "space.yaml", *TRIALS, *FLAGS, *flags)
        assert "Sweep space was begun with" in one_sentence(ended), flags
    (own / "space.yaml").write_text("model.optimizer.lr: [0.1]\ndata.batch_size: [16, 32]")
    ended = command("sweep", "space.yaml", *TRIALS, *FLAGS)
    lr = 'model.optimizer.lr (in the space) {"low": 0.001, "high": 0.5, "log": true}, not [0.1]'
    assert f"Sweep space was begun with {lr}" in one_sentence(ended)
    assert "there is no such file, and no sweep" in one_sentence(command("sweep", "nope"))


def test_without_optuna(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\n"
        "for name in list(sys.modules):\n"
        "    if name.startswith(('optuna', 'cifar_lightning.sweep')):\n"
        "        del sys.modules[name]\n"
        "sys.modules['optuna'] = None\n"
        "from cifar_lightning.__main__ import main\nmain()"
    )
    ended = command("sweep", "space.yaml", script=str(script))
    assert "sweep needs Optuna: pip install" in one_sentence(ended)
