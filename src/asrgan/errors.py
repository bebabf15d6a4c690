"""What ends a run in one line, without a traceback."""


class UserError(Exception):
    """A mistake in a configuration, a file or an argument.

    The message is one line: argument, rule, value, way out. The command line prints it
    without a traceback and exits with ``exit_code``.
    """

    exit_code = 2


class UnreadableImageError(UserError):
    """A file that cannot be decoded as a photograph; the message names the file and the reason."""


class FailedPicturesError(UserError):
    """Some of many pictures failed; the others are there."""

    exit_code = 1


class DivergedError(UserError):
    """A loss, or a network's result, that is no longer a finite number."""

    exit_code = 1


class PrunedError(UserError):
    """A run that a search has ended, since others were better by then."""

    exit_code = 0


class LostProcessError(UserError):
    """One of several processes ended, so the others cannot go on."""

    exit_code = 1


class InterruptedRunError(UserError):
    """A run that was asked to stop (Ctrl-C, SIGTERM) and has saved its state."""

    exit_code = 130


class PreemptedRunError(InterruptedRunError):
    """A run that a scheduler asked to make room (SIGUSR1), and that may go on by itself later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


SAVED_CODES = (InterruptedRunError.exit_code, PreemptedRunError.exit_code)
"""Exit codes of a run that was asked to stop, and can go on."""


class RequirementsMissedError(UserError):
    """Results that are complete, and not good enough for what was required of them."""

    exit_code = 3


class IncompleteStudyError(UserError):
    """A study some of whose cells are not finished."""

    exit_code = 1
