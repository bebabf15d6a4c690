"""From a command line to a resolved configuration, through Hydra."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

Config = DictConfig | ListConfig
Task = Callable[[DictConfig, Path], None]


def configuration_folder() -> Path:
    """The folder ``conf``: inside an installed wheel, or at the root of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def run_verb(verb: str, arguments: Sequence[str], task: Task) -> None:
    """Composes ``conf/VERB.yaml`` with the overrides and calls ``task(config, output_dir)``.

    All of Hydra's own flags work: ``--multirun``, ``--cfg job``, ``--config-dir`` and so on.

    Raises:
        hydra.errors.HydraException: an override or a configuration file is wrong.
    """
    _register_resolvers()
    if verb == "doctor":
        arguments = [_size_in_px(argument) for argument in arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach the command line, which words them
    command = sys.argv[0]
    failures: list[Exception] = []

    def job(config: DictConfig) -> None:
        output_dir = Path(HydraConfig.get().runtime.output_dir)
        config.output_dir = str(output_dir)
        OmegaConf.resolve(config)  # while ${hydra:...} can still be read
        # Lightning starts further processes with this process's arguments. They must do this job,
        # in this folder, not the whole sweep again; so it must not know of Hydra either.
        repeated = [*_flags_to_repeat(arguments), *_own_overrides()]
        sys.argv = [command, verb, *repeated, f"output_dir={quoted(output_dir)}"]
        is_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        HydraConfig.instance().cfg = None
        try:
            task(config, output_dir)
        except Exception as error:
            if output_dir != Path.cwd():
                with suppress(OSError):
                    output_dir.rmdir()  # leaves no empty folder
            if is_sweep:
                raise
            failures.append(error)  # past Hydra, which would print a line of its own

    sys.argv = [command, *arguments]
    hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=verb)(job)()
    for error in failures:
        raise error


def compose(verb: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a verb as plain containers, for notebooks and benchmarks.

    Raises:
        hydra.errors.HydraException: an override is wrong.
    """
    _register_resolvers()
    earlier = HydraConfig.instance().cfg
    with hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = hydra.compose(verb, list(overrides), return_hydra_config=True)
    try:
        HydraConfig.instance().set_config(config)
        keys = [str(key) for key in config if key != "hydra"]
        plain = OmegaConf.to_container(OmegaConf.masked_copy(config, keys), resolve=True)
    finally:
        HydraConfig.instance().cfg = earlier
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _register_resolvers() -> None:
    # Random letters, so that two runs of one second do not share a folder.
    OmegaConf.register_new_resolver(
        "fresh_name", lambda: os.urandom(3).hex(), use_cache=True, replace=True
    )


def _size_in_px(argument: str) -> str:
    """``size=2000x1500`` as ``size_px=2000x1500``, since `size` is also a group of options."""
    key, _, value = argument.partition("=")
    is_option = (configuration_folder() / "size" / f"{value}.yaml").exists()
    return argument if key != "size" or is_option else f"size_px={quoted(value)}"


def _own_overrides() -> list[str]:
    overrides = HydraConfig.get().overrides.task
    return [override for override in overrides if not override.startswith("output_dir=")]


def _flags_to_repeat(arguments: Sequence[str]) -> list[str]:
    flags = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
    repeated: list[str] = []
    for argument, following in pairwise([*arguments, ""]):
        if argument in flags:
            repeated += [argument, following]
        elif argument.partition("=")[0] in (*flags, "hydra.searchpath"):
            repeated.append(argument)
    return repeated


def quoted(value: object) -> str:
    """Text as Hydra's grammar takes it, whatever characters are in it; quoted where it must be."""
    if re.fullmatch(r"[\w.-]*(/[\w.-]+)+", str(value), flags=re.ASCII):
        return str(value)  # a plain path
    text = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (m[2] and "\\'"), str(value))
    return f"'{text}'"


def explain(message: str, *, verb: str) -> str:
    """A message of Hydra or OmegaConf as one line, with the nearest existing key."""
    line = " ".join(message.split()).partition(" Config search path:")[0]
    if missing := re.search(r"[Mm]issing mandatory value: (\S+)", line):
        return f"`{missing[1]}` has no value; give it: {missing[1]}=..."
    if unknown := re.search(r"Could not override '([^']+)'", line):
        key = unknown[1]
        near = difflib.get_close_matches(key, _keys_of(verb), n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"see: asrgan {verb} --cfg job"
        return f"`{key}` is no key of `asrgan {verb}`; {hint}"
    return line


def flatten(config: Config) -> dict[str, object]:
    """The values of a configuration by their full keys, unresolved: ``data.crop_size_px`` -> 96."""
    leaves: dict[str, object] = {}

    def walk(node: object, key: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in cast("dict[str, object]", node).items():
                walk(value, f"{key}.{name}" if key else name)
        else:
            leaves[key] = node

    walk(OmegaConf.to_container(config), "")
    return leaves


def _keys_of(verb: str) -> list[str]:
    with hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return list(flatten(hydra.compose(verb)))
