import signal
import subprocess
import threading
import time
from multiprocessing import Pipe

import pytest

from asrgan.engine import watch
from asrgan.errors import LostProcessError


def test_a_child_is_told_with_its_signal_though_it_ends_long_after_its_connection(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(watch, "_POLL_S", 0.01)
    waits_then_kills_itself = ["sh", "-c", "read line; kill -KILL $$"]
    with subprocess.Popen(waits_then_kills_itself, stdin=subprocess.PIPE) as child:
        watched = watch.Watch({}, children={1: child})
        ours, its = Pipe()
        watched._connections[1] = ours
        listener = threading.Thread(target=watched._listen)
        listener.start()
        its.close()
        time.sleep(0.2)  # many polls
        assert child.stdin is not None
        child.stdin.close()
        with (
            pytest.raises(LostProcessError, match="rank 1 was killed by signal 9; resume=true"),
            watched.guard(),
        ):
            raise RuntimeError("Connection closed by peer")
        listener.join()
    assert child.returncode == -signal.SIGKILL


def test_others_are_told_that_a_process_was_interrupted_where_it_stood():
    """A second Ctrl-C, or one that reached this process alone: the others would wait for it."""
    watched = watch.Watch({}, children={})
    ours, its = Pipe()
    watched._connections[0] = ours
    with pytest.raises(KeyboardInterrupt), watched.guard():
        raise KeyboardInterrupt
    assert its.recv() == ("rank 0: was interrupted; resume=true goes on from the last checkpoint.")
