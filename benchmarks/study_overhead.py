"""What a study costs on top of its runs.

    python benchmarks/study_overhead.py FOLDER NAME [key=value ...] [-- key=value ...]

Runs the study NAME below FOLDER one cell at a time, then the same commands one after the other
without it, and compares the wall times.
"""

import subprocess
import sys
import time
from pathlib import Path

from asrgan.studies import StudyFolder


def main() -> None:
    """Times the study, then its bare runs."""
    folder, words = Path(sys.argv[1]).absolute(), sys.argv[2:]
    place = words.index("--") if "--" in words else len(words)
    given = [*words[:place], f"output_dir={folder / 'study'}", "jobs=1", *words[place:]]
    study_s = seconds("study", "run", *given)
    bare_s = 0.0
    for cell in StudyFolder(folder / "study").cells():
        plan = cell.plan()
        assert plan is not None
        for verb, given in (("train", plan.train), ("evaluate", plan.evaluate)):
            if given:
                elsewhere = (w.replace(f"{folder}/study/", f"{folder}/bare/") for w in given)
                bare_s += seconds(verb, *elsewhere)
    print(f"study {study_s:.1f} s, bare {bare_s:.1f} s, overhead {study_s / bare_s - 1:.2%}")


def seconds(*words: str) -> float:
    """Wall time of an `asrgan` command."""
    start_s = time.monotonic()
    command = [sys.executable, "-m", "asrgan", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start_s


if __name__ == "__main__":
    main()
