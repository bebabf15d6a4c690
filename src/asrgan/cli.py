"""The command ``asrgan VERB [overrides]``. It imports a verb only when the verb runs."""

import ast
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from asrgan.configuration import (
    cause_of,
    configuration_folder,
    explain,
    run_verb,
    study_arguments,
)
from asrgan.errors import UserError
from asrgan.files import DISK_ERRORS

VERBS = ("prepare", "train", "evaluate", "study", "upscale", "export", "doctor")

_PLACE_ERRORS = {
    errno.EEXIST: "is a file; name a folder",
    errno.ENOTDIR: "leads through a file; name a folder",
    errno.ENAMETOOLONG: "is too long; choose a shorter name",
}

HELP = """\
asrgan VERB [key=value ...]

Train, sweep, compare and use super-resolution GANs on photographs of any size.

{verbs}

Every verb:
  output_dir=DIR          where it writes; default: a fresh folder below outputs/VERB
  --help                  what the verb does, with examples
  --cfg job               the whole configuration, with all keys
  --multirun, -m          sweep: key=a,b,c
  --config-dir DIR        your own experiments beside the built-in ones

Examples:
  asrgan train experiment=srresnet_x4 size=small data.train=DIR data.validation=DIR output_dir=run
  asrgan evaluate 'models=[bicubic,run/generator.safetensors]' 'benchmarks=[DIR]'
  asrgan upscale input=photos output=large scale_to=2000
  asrgan export weights=run/generator.safetensors format=onnx output=srgan.onnx
  asrgan doctor weights=run/generator.safetensors size=2000x1500

Tab completion:  eval "$(asrgan -sc install=bash)"   (also fish, zsh)
ASRGAN_DEBUG=1 shows the traceback behind an error.
"""


def main() -> None:
    """Entry point of the command ``asrgan``; exits with the run's code."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<10}{_headline(verb)}" for verb in VERBS)))
    elif arguments[0] == "--version":
        print(metadata.version("asrgan"))
    elif arguments[0] in ("-sc", "--shell-completion"):
        _complete(arguments)
    elif arguments[0] not in VERBS:
        sys.exit(_fail(f"`{arguments[0]}` is no verb; try one of: {', '.join(VERBS)}.", code=2))
    elif "--help" in arguments or "-h" in arguments:
        print(_documentation(arguments[0]))
        if arguments[0] == "train":
            print("\n" + _groups())
    else:
        sys.exit(_run(arguments[0], arguments[1:]))


def _run(verb: str, arguments: Sequence[str]) -> int:
    def task(config: DictConfig, output_dir: Path) -> None:
        importlib.import_module(f"asrgan.{verb}").run(config, output_dir)

    try:
        if verb == "study":
            arguments = study_arguments(arguments)
        run_verb(verb, arguments, task)
    except KeyboardInterrupt:
        return _fail("Interrupted.", code=130)
    except Exception as error:
        return _explain(error, verb=verb)
    return 0


def _explain(error: Exception, *, verb: str) -> int:
    cause = cause_of(error)
    if isinstance(cause, UserError):
        # From a process of the loader it comes with the traceback before it.
        message = str(cause).strip().rpartition(f"{type(cause).__name__}: ")[2]
        return _fail(message, code=cause.exit_code)
    if isinstance(error, InstantiationException):
        return _fail(" ".join(str(error).split()), code=2)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _fail(explain(error, verb=verb), code=2)
    if isinstance(error, OSError) and error.errno in _PLACE_ERRORS:
        return _fail(f"`{error.filename}` {_PLACE_ERRORS[error.errno]}.", code=2)
    if isinstance(error, OSError) and error.errno in {*DISK_ERRORS, errno.EFBIG}:
        return _fail(str(error), code=2)
    traceback.print_exc()
    return 1


def _fail(message: str, *, code: int) -> int:
    if os.environ.get("ASRGAN_DEBUG") == "1" and sys.exc_info()[1] is not None:
        traceback.print_exc()
    print(f"asrgan: {message}", file=sys.stderr)
    return code


def _documentation(verb: str) -> str:
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""  # without importing torch


def _headline(verb: str) -> str:
    return _documentation(verb).splitlines()[0]


def _groups() -> str:
    folder = configuration_folder()
    lines = ["Groups (choose with GROUP=NAME):"]
    for group in sorted({path.parent for path in folder.glob("**/*.yaml")} - {folder}):
        names = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        lines.append(f"  {group.relative_to(folder).as_posix():<22}{names}")
    return "\n".join(lines)


def _complete(arguments: Sequence[str]) -> None:
    """Completes the verb here, and lets Hydra complete what follows it."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    verb = VERBS[0]
    if any(argument.startswith("query=") for argument in arguments):
        if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
            print(" ".join(VERBS))
            return
        command, verb = words[:2]
        if verb not in VERBS:
            return
        rest = line.split(verb, maxsplit=1)[1].lstrip()
        os.environ["COMP_LINE"] = f"{command} {rest}"
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    run_verb(verb, arguments, _do_nothing)


def _do_nothing(config: DictConfig, output_dir: Path) -> None:
    del config, output_dir  # completion ends before any task
