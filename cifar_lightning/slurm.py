"""A job that SLURM ends before its time: saved like any other, queued again, gone on with."""

import logging
import os
import subprocess
from pathlib import Path

from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning import Trainer

from cifar_lightning.runs import newest_run_of_job

log = logging.getLogger(__name__)


def requeue_signal(trainer: Trainer) -> int | None:
    """The signal by which SLURM announces the end of the job's time (``sbatch --signal``), as
    Lightning's SLURM plugin names it; None outside of SLURM or without ``auto_requeue``."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None


def job_id() -> str | None:
    """The job that this process runs in, as ``scontrol`` names it."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue() -> None:
    """Put this job into the queue again."""
    job = job_id()
    assert job is not None
    ended = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if ended.returncode == 0:
        log.info("SLURM job %s is in the queue again.", job)
    else:
        log.warning("SLURM job %s could not be queued again: %s", job, ended.stderr.strip())


def checkpoint_to_go_on_from(logs: Path) -> str | None:
    """The newest state of the run that this job had begun before it was queued again."""
    job = job_id()
    if job is None or int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0:
        return None
    run = newest_run_of_job(logs, job)
    return None if run is None else str(run / "checkpoints" / "last.ckpt")
