"""What a person can put right: shown as one sentence, without a traceback."""


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
