"""The short form of ``tests/fault_injection.py``."""

import subprocess
import sys
from pathlib import Path


def test_killed_and_poisoned_runs_end_like_undisturbed_ones():
    program = Path(__file__).with_name("fault_injection.py")
    command = [sys.executable, str(program), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "5 cases, 5 equal to the undisturbed run, 0 not."
