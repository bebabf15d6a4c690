"""Commands that end with the process that started them, and locks that last as long as they do."""

import ctypes
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from asrgan.errors import UserError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE_S = 1.0  # `Lock.is_held` takes the lock for an instant


class Lock:
    """An exclusive lock on a file, seen by every process of the machine and over NFS.

    It is held by an open file, not by a process: a command that inherits the file keeps the lock
    until it ends, even if the process that took it was killed.

    Args:
        path: the file; made when it is not there, and never removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, patience_s: float = _PATIENCE_S) -> bool:
        """Takes the lock and notes in the file who holds it; False where it is held already.

        Args:
            patience_s: how long another may keep it meanwhile.

        Raises:
            UserError: the file system knows no locks, or the file cannot be written.
        """
        deadline_s = time.monotonic() + patience_s
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            while not _try_lock(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline_s:
                    os.close(file)
                    return False
                time.sleep(0.05)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"process": os.getpid(), "host": platform.node(), "since": now}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise UserError(f"`{self.path}` cannot be locked ({error.strerror}).") from error
        self._file = file
        return True

    def release(self) -> None:
        """Lets go; a command that inherited the file still keeps it."""
        assert self._file is not None
        os.close(self._file)
        self._file = None

    def fileno(self) -> int:
        """The open file, for a command that shall keep the lock."""
        assert self._file is not None
        return self._file

    def is_held(self) -> bool:
        """Whether some process holds it."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(file, fcntl.LOCK_SH)
        finally:
            os.close(file)

    @property
    def holder(self) -> str:
        """Who took it last, for messages."""
        try:
            note = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {note['process']} on {note['host']}, since {note['since']}"
        except (OSError, ValueError, KeyError):
            return "another process"


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start_bound(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    cores: Sequence[int],
    lock: Lock,
) -> subprocess.Popen[bytes]:
    """Starts a command that gets SIGTERM when the thread that started it ends, however it ends.

    It has a session of its own, so that Ctrl-C reaches it only through whoever started it.

    Args:
        command: the first word is the full path of a program.
        log: its output is appended here.
        environment: on top of this process's.
        cores: those it may use; empty: all.
        lock: held, and kept until the command ends.
    """
    words = [str(os.getpid()), ",".join(map(str, cores)), *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "asrgan.subprocesses", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )


def _become(parent: int, cores: str, command: list[str]) -> None:
    """Turns this process into the command; what is set here stays.

    Done here and not between fork and exec of the parent, whose threads may hold locks then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it was killed before it could take us along
        sys.exit(128 + signal.SIGTERM)
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
