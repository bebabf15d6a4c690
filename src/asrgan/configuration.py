"""From a command line to a resolved configuration, through Hydra."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra._internal.callbacks import Callbacks  # in the context that launchers are given
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from asrgan.errors import InterruptedRunError, UserError
from asrgan.searches import PLACE

Config = DictConfig | ListConfig
Task = Callable[[DictConfig, Path], None]

_PATHS = frozenset(
    {
        "input",
        "output",
        "output_dir",
        "weights",
        "generator.weights",
        "data.train",
        "data.validation",
    }
)


def configuration_folder() -> Path:
    """The folder ``conf``: inside an installed wheel, or at the root of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def studies_folder() -> Path:
    """The folder of the studies that come with asrgan: ``NAME/study.yaml``."""
    return configuration_folder().with_name("experiments")


def run_verb(verb: str, arguments: Sequence[str], task: Task) -> None:
    """Composes ``conf/VERB.yaml`` with the overrides and calls ``task(config, output_dir)``.

    All of Hydra's own flags work: ``--multirun``, ``--cfg job``, ``--config-dir`` and so on.

    Raises:
        UserError: an override is of another type than what it replaces.
        hydra.errors.HydraException: an override or a configuration file is wrong.
    """
    _register_resolvers()
    if verb == "doctor":
        arguments = [_size_in_px(argument) for argument in arguments]
    _refuse_null_choices(arguments)
    is_sweep = not {"-m", "--multirun"}.isdisjoint(arguments)
    arguments = [_path_in_grammar(argument, is_sweep=is_sweep) for argument in arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach the command line, which words them
    command = sys.argv[0]
    failures: list[Exception] = []

    def job(config: DictConfig) -> None:
        output_dir = Path(HydraConfig.get().runtime.output_dir)
        config.output_dir = str(output_dir)
        # Further processes of a training start with this process's arguments. They must do this
        # job, in this folder, not the whole sweep again.
        repeated = [*_flags_to_repeat(arguments), *_own_overrides()]
        sys.argv = [command, verb, *repeated, f"output_dir={quoted(output_dir)}"]
        is_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        is_in_turn = HydraConfig.get().runtime.choices["hydra/launcher"] == "basic"
        try:
            _settle(config)
            OmegaConf.resolve(config)  # while ${hydra:...} can still be read
            task(config, output_dir)
        except Exception as error:
            if is_sweep and not (is_in_turn and isinstance(error, InterruptedRunError)):
                raise
            failures.append(error)  # past Hydra, which would print a line of its own
            if is_sweep:
                raise KeyboardInterrupt from error  # past the launcher, which would do the next job
        finally:
            if output_dir != Path.cwd():
                with suppress(OSError):
                    output_dir.rmdir()  # leaves no empty folder

    sys.argv = [command, *arguments]
    main = hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=verb)
    try:
        main(job)()
    finally:
        for error in failures:
            raise error


def launch(task: Callable[[DictConfig], None], jobs: Sequence[Sequence[str]]) -> None:
    """Runs jobs of the current verb through the launcher of ``hydra/launcher``, and waits for them.

    Args:
        task: gets the configuration of its job, perhaps on another machine.
        jobs: overrides of the verb, for each.

    Raises:
        Exception: what a task or the launcher raised.
    """
    current, hydra_ = HydraConfig.get(), GlobalHydra.instance().hydra
    assert hydra_ is not None
    config = hydra_.compose_config(
        current.job.config_name,
        [*current.overrides.hydra, *jobs[0]],
        run_mode=RunMode.MULTIRUN,
        with_log_configuration=False,
    )
    context = HydraContext(config_loader=hydra_.config_loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(context, task, config)
    for result in launcher.launch(jobs, initial_job_idx=0):
        _ = result.return_value  # raises what the task raised


def compose(verb: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a verb as plain containers, for notebooks and benchmarks.

    Raises:
        UserError: an override is of another type than what it replaces.
        hydra.errors.HydraException: an override is wrong.
    """
    with _composed(verb, overrides) as config:
        _settle(config)
        return _plain(config)


def compose_seeds(overrides: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """``compose("train", [*overrides, f"seed={seed}"])`` for each seed, at the cost of one.

    Raises:
        UserError: an override is of another type than what it replaces.
        hydra.errors.HydraException: an override is wrong.
    """
    plain: list[dict[str, Any]] = []
    with _composed("train", overrides) as config:
        _settle(config)
        for seed in seeds:
            config.seed = seed
            plain.append(_plain(config))
    return plain


@contextmanager
def _composed(verb: str, overrides: Sequence[str]) -> Generator[DictConfig]:
    """The configuration, while what it says of Hydra can be read."""
    _register_resolvers()
    _refuse_null_choices(overrides)
    earlier = HydraConfig.instance().cfg
    with _initialized():
        config = hydra.compose(verb, list(overrides), return_hydra_config=True)
    try:
        HydraConfig.instance().set_config(config)
        yield config
    finally:
        HydraConfig.instance().cfg = earlier


def _initialized() -> AbstractContextManager[None]:
    """Hydra with our configuration; within a verb, with all the folders it was given."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3")


def _plain(config: DictConfig) -> dict[str, Any]:
    keys = [str(key) for key in config if key != "hydra"]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, keys), resolve=True)
    return cast("dict[str, Any]", plain)


def _settle(config: DictConfig) -> None:
    """Has the last word on a composed configuration: its types, and what it is to be without.

    Raises:
        UserError: names the key.
    """
    current = HydraConfig.get()
    overrides = OverridesParser.create().parse_overrides(list(current.overrides.task))
    for group, choice in current.runtime.choices.items():
        part = group.replace("/", ".")
        if choice == "none" and not part.startswith("hydra."):
            # An experiment may have set something in it nevertheless.
            if any(word.key_or_group.startswith(f"{part}.") for word in overrides):
                raise UserError(f"`{group}` (=none) has no settings; choose another one for these.")
            OmegaConf.update(config, part, None, merge=False)
    _check_types(config, overrides)


def _check_types(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Numbers stay numbers, and switches true or false: `overwrite=no` is a text, and so true.

    Raises:
        UserError: names the key.
    """
    current = HydraConfig.get()
    choices = [word for word in overrides if word.key_or_group in current.runtime.choices]
    if len(choices) == len(overrides):
        return
    with _initialized():
        chosen = [str(word.input_line) for word in choices]
        defaults = flatten(hydra.compose(current.job.config_name, chosen))
    for key, value in flatten(config).items():
        default = defaults.get(key)
        if value is None or (isinstance(value, str) and "${" in value):
            continue
        if isinstance(default, bool) and not isinstance(value, bool):
            raise UserError(f"`{key}` (={value}) must be true or false.")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, int | float) and not isinstance(default, bool) and not is_number:
            raise UserError(f"`{key}` (={value}) must be a number.")


def study_arguments(words: Sequence[str]) -> list[str]:
    """What follows ``asrgan study``, as overrides; makes the study's file known to Hydra.

    Args:
        words: ``ACTION NAME``, overrides of the verb and ``--`` with overrides of each training.
            A name is that of a shipped study, or a folder with a study.yaml.

    Raises:
        UserError: there is no such study, or its file is no YAML.
    """
    leading = list(takewhile(lambda word: "=" not in word and word[:1] not in "-~", words))
    if len(leading) > 2:
        raise UserError(f"`asrgan study` takes an action and a study; `{leading[2]}` is too much.")
    overrides, behind = _split(words[len(leading) :], "--")
    if "-m" in overrides or "--multirun" in overrides:
        raise UserError("a study is a sweep of its own; leave out --multirun.")
    action, name = (*leading, None, None)[:2]
    definition: dict[Any, Any] = {}
    added: list[str] = []
    if name is not None and (Path(name) / PLACE).is_file():
        if action != "report":
            raise UserError(f"`{name}` holds a search; try asrgan study report {name}.")
        definition = {"name": Path(name).resolve().name}
        added.append(as_override("output_dir", name))
    elif name is not None:
        folder = _find_study(name)
        definition = _load_study(folder / "study.yaml")
        definition = {"name": folder.resolve().name, **definition}
        # Hydra takes `size=...` for a choice among the group that only `asrgan train` has.
        sizes = [word for word in overrides if word.startswith("size=")]
        overrides = [word for word in overrides if word not in sizes]
        definition |= dict(word.split("=", maxsplit=1) for word in sizes)
        if action in ("status", "report", "sync"):
            # They look at what ran, whatever the file needs or says now.
            definition = {"name": definition["name"]}
        has_own = any(word.startswith("output_dir=") for word in overrides)
        if (folder / "study.json").exists() and not has_own:  # a folder that a study wrote
            added.append(as_override("output_dir", str(folder)))
    ConfigStore.instance().store(
        name="study_definition", node=OmegaConf.create(definition), provider="study.yaml"
    )
    if action is not None:
        added.append(as_override("action", action))
    if behind:
        added.append(as_override("overrides", behind))
    # Right behind the user's last one: Hydra takes overrides before flags or after them, not both.
    own = [n for n, word in enumerate(overrides, 1) if "=" in word and not word.startswith("-")]
    place = own[-1] if own else len(overrides)
    return [*overrides[:place], *added, *overrides[place:]]


def _split(words: Sequence[str], separator: str) -> tuple[list[str], list[str]]:
    place = words.index(separator) if separator in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


def _find_study(name: str) -> Path:
    for folder in (Path(name), studies_folder() / name):
        if (folder / "study.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in studies_folder().glob("*/study.yaml"))
    raise UserError(
        f"`{name}` is neither a folder with a study.yaml nor one of the studies {', '.join(known)}."
    )


def _load_study(path: Path) -> dict[Any, Any]:
    try:
        definition = OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"`{path}` cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(definition, dict):
        raise UserError(f"`{path}` must hold keys and values; see: asrgan study --cfg job.")
    known: Any = OmegaConf.to_container(OmegaConf.load(configuration_folder() / "study.yaml"))
    for key, value in definition.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), map(str, known), n=1)
            hint = f"did you mean {near[0]}?" if near else "see: asrgan study --cfg job"
            raise UserError(f"`{path}`: `{key}` is no key of a study; {hint}")
        if isinstance(known[key], dict) and not isinstance(value, dict):
            raise UserError(f"`{path}`: `{key}` (={value}) must hold keys and values.")
    return definition


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


def _refuse_null_choices(arguments: Sequence[str]) -> None:
    for argument in arguments:
        group, _, value = argument.partition("=")
        if value == "null" and (folder := configuration_folder() / group).is_dir():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise UserError(f"`{group}` (=null) must be one of {known}.")


def _path_in_grammar(argument: str, *, is_sweep: bool) -> str:
    """``input=photos (2024)`` as Hydra takes it, to whom a path may be anything else."""
    key, _, value = argument.partition("=")
    if key not in _PATHS or value[:1] in ("'", '"'):
        return argument
    if value.startswith("~/"):  # which a shell leaves as it is behind `=`
        value = str(Path(value).expanduser())
    try:
        override = OverridesParser.create().parse_override(f"{key}={value}")
        is_one = is_sweep or not override.is_sweep_override()
    except HydraException:
        is_one = False
    return f"{key}={value if is_one else quoted(value)}"


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


def as_override(key: str, value: object) -> str:
    """``key=value`` in Hydra's grammar; a key that begins with ``~`` is removed."""
    return key if key.startswith("~") else f"{key}={_in_grammar(value)}"


def _in_grammar(value: object) -> str:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return f"{{{','.join(f'{key}:{_in_grammar(item)}' for key, item in items)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(_in_grammar(item) for item in cast('list[object]', value))}]"
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else str(value).lower()  # True, 1e-05


def flags_of_this_run() -> list[str]:
    """Hydra's flags with which another verb finds the same configuration files as this one."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    return [word for folder in folders for word in ("--config-dir", folder)]


def quoted(value: object) -> str:
    """Text as Hydra's grammar takes it, whatever characters are in it; quoted where it must be."""
    plain = r"[\w.-]*(/[\w.-]+)+|(?!(null|true|false|inf|nan)$)[a-z]\w*"  # a path or a word
    if re.fullmatch(plain, str(value), flags=re.ASCII | re.IGNORECASE):
        return str(value)
    text = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (m[2] and "\\'"), str(value))
    return f"'{text}'"


def cause_of(error: BaseException) -> BaseException:
    """What went wrong in a constructor that Hydra called."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def explain(error: Exception, *, verb: str) -> str:
    """An error of Hydra or OmegaConf as one line, with the nearest existing key."""
    line = " ".join(str(error).split()).partition(" Config search path:")[0]
    if missing := re.search(r"[Mm]issing mandatory value: (\S+)", line):
        return f"`{missing[1]}` has no value; give it: {missing[1]}=..."
    if launcher := re.search(r"Could not find 'hydra/launcher/(joblib|submitit)", line):
        extra = {"joblib": "joblib", "submitit": "slurm"}[launcher[1]]
        return f"`hydra/launcher` needs another package; try: pip install 'asrgan[{extra}]'."
    if merged := re.search(r"Error merging override (.*)", line):
        cause = str(error.__cause__).partition("\n")[0]  # a list where a mapping stands, or so
        return f"{merged[1]}: {cause}"
    if unknown := re.search(r"Could not override '([^']+)'", line):
        key = unknown[1]
        if f"full_key: {key}." in str(error.__cause__):
            return line  # the value adds something below the key, and Hydra says how
        known = _keys_of(verb)
        near = difflib.get_close_matches(key, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"see: asrgan {verb} --cfg job"
        return f"`{key}` is no key of `asrgan {verb}`; {hint}"
    return line


def as_texts(value: object) -> list[str]:
    """One value or several, as text: a folder may be called 2024, which Hydra reads as a number."""
    is_one = isinstance(value, str) or not isinstance(value, Sequence)
    return [str(item) for item in ([value] if is_one else cast("Sequence[object]", value))]


def flatten(config: Config | Mapping[str, object]) -> dict[str, object]:
    """The values of a configuration by their full keys, unresolved: ``data.crop_size_px`` -> 96."""
    leaves: dict[str, object] = {}

    def walk(node: object, key: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in cast("dict[str, object]", node).items():
                walk(value, f"{key}.{name}" if key else name)
        else:
            leaves[key] = node

    walk(OmegaConf.to_container(config) if OmegaConf.is_config(config) else config, "")
    return leaves


def _keys_of(verb: str) -> list[str]:
    with _initialized():
        return list(flatten(hydra.compose(verb)))
