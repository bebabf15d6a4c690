import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asrgan.errors import UserError
from asrgan.subprocesses import Lock, start_bound

PYTHON = sys.executable


def start(tmp_path: Path, lock: Lock, code: str, **options: object) -> subprocess.Popen[bytes]:
    settings = {"environment": {}, "cores": [], **options}
    return start_bound([PYTHON, "-c", code], log=tmp_path / "log", lock=lock, **settings)


def test_a_lock_is_held_once(tmp_path: Path):
    one, other = Lock(tmp_path / "a" / "lock"), Lock(tmp_path / "a" / "lock")
    assert not one.is_held()
    assert one.acquire()
    assert other.is_held()
    assert not other.acquire()
    assert f"process {os.getpid()} on " in other.holder
    one.release()
    assert not other.is_held()
    assert other.acquire()
    other.release()


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/lock` cannot be locked \(File exists\)"):
        Lock(tmp_path / "file" / "lock").acquire()


def test_a_command_keeps_the_lock_until_it_ends(tmp_path: Path):
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    process = start(tmp_path, lock, "input()", environment={})
    lock.release()
    code = process.wait()
    assert code == 1  # there is no input
    assert not lock.is_held()

    assert lock.acquire()
    process = start(tmp_path, lock, "import time; time.sleep(600)")
    lock.release()
    assert lock.is_held()
    process.kill()
    process.wait()
    assert not lock.is_held()


def test_a_command_gets_its_environment_cores_and_log(tmp_path: Path):
    core = min(os.sched_getaffinity(0))
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    code = "import os; print(os.environ['WORD'], os.sched_getaffinity(0))"
    for _ in range(2):
        start(tmp_path, lock, code, environment={"WORD": "ä"}, cores=[core]).wait()
    lock.release()
    assert (tmp_path / "log").read_text("utf-8").splitlines() == [f"ä {{{core}}}"] * 2


PARENT = """
import sys, time
from pathlib import Path
from asrgan.subprocesses import Lock, start_bound
folder = Path(sys.argv[1])
lock = Lock(folder / "lock")
assert lock.acquire()
child = f"import time; open({str(folder / 'begun')!r}, 'w').close(); time.sleep(600)"
start_bound([sys.executable, "-c", child], log=folder / "log", environment={}, cores=[], lock=lock)
time.sleep(600)
"""


def test_a_command_ends_with_the_process_that_started_it(tmp_path: Path):
    parent = subprocess.Popen([PYTHON, "-c", PARENT, str(tmp_path)])
    lock = Lock(tmp_path / "lock")
    deadline_s = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while lock.is_held():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_command_whose_parent_is_gone_does_not_start(tmp_path: Path):
    command = [PYTHON, "-m", "asrgan.subprocesses", "1", "", PYTHON, "-c", "print('started')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == ""
