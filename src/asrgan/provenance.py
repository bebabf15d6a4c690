"""Which code, with which packages, made a result."""

import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "asrgan",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "albumentations",
    "numpy",
    "pillow",
)


# What neither trains nor scores: changing it changes no result ...
_WITHOUT_RESULTS = (
    "__main__.py",
    "cli.py",
    "console.py",
    "doctor.py",
    "export.py",
    "prepare.py",
    "spandrel.py",
    "studies",
    "study.py",
    "subprocesses.py",
    "upscale.py",
)
_SCORING = "studies/scoring.py"  # ... but for this


def code_version() -> str:
    """A hash of the sources that make results: the same wherever the same code is installed."""
    package = Path(__file__).resolve().parent
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.partition("/")[0] not in _WITHOUT_RESULTS or name == _SCORING:
            total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def git_commit() -> str | None:
    """The commit of the checkout this package runs from, ``-dirty`` where files differ.

    None for an installed wheel, and where git is missing.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe_run() -> dict[str, object]:
    """Commit, versions, platform and command of this process, for ``run.json``."""
    return {
        "git_commit": git_commit(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
    }
