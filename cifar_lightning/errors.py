"""What a person can put right: shown as one sentence, without a traceback."""

import os


class UserError(Exception):
    """Something outside the program is wrong.

    The message names the thing and says what to do about it.
    """

    exit_status = 1


class DivergedError(UserError):
    """The loss is no longer a number."""


class UsageError(UserError):
    """The command line asks for what cannot be."""

    exit_status = 2


def process_number() -> int:
    """The number of this process among those that torchrun, SLURM or the first of them started:
    who it is that speaks, also before they are connected."""
    numbers = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next((number for number in numbers if number), "0"))
