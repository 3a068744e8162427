"""A job that SLURM ends before its time: saved like any other, queued again, gone on with."""

import logging
import os
import subprocess

from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning import Trainer

from cifar_lightning.lightning_internals import cluster_environment

log = logging.getLogger(__name__)


def requeue_signal(trainer: Trainer) -> int | None:
    """The signal by which SLURM announces the end of the job's time (``sbatch --signal``), as
    Lightning's SLURM plugin names it; None outside of SLURM or without ``auto_requeue``."""
    environment = cluster_environment(trainer)
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


def was_requeued() -> bool:
    """Whether this job has been in the queue again, and may have a run to go on with."""
    return job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
