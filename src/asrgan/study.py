"""Run many trainings that answer one question, whatever happens meanwhile.

  asrgan study run NAME|DIR [key=value ...] [-- key=value ...]
  asrgan study check|commands|sweep NAME|DIR ...
  asrgan study status|sync NAME|DIR
  asrgan study report NAME|DIR|SEARCH [report.pictures=N] [wandb=ENTITY/PROJECT]

NAME is a study of experiments/, DIR a folder with a study.yaml, or one that a study wrote: it knows
everything that was given before. What follows -- goes to each `asrgan train`.

  run       trains and evaluates each cell (a variant with a seed, a stage they start from) in a
            process of its own. The same command again goes on after Ctrl-C, a crash or kill -9;
            a finished cell is never done again, and a new seed or variant is all that is added.
  check     which cells there are; finds what is wrong, and runs nothing
  status    where each cell stands
  report    the answer so far: statistics over seeds and pictures, and a page to look at; of a
            folder that hydra/sweeper=optuna has filled: the best trials, what matters, all trials
  sync      sends to W&B what its logger has kept offline
  commands  the same grid as plain `asrgan train -m ...` lines
  sweep     the same as files for `wandb sweep`, in sweep/

Examples:
    asrgan study run srgan_vs_asrgan size=small data.train=photos data.validation=Set5
        'benchmarks=[Set5,Set14]' seeds=[1,2,3]
  Two cells side by side, with the cores divided between them:
    asrgan study run srgan_vs_asrgan ... jobs=2
  More seeds later; failed cells once more:
    asrgan study run outputs/studies/srgan_vs_asrgan seeds=[1,2,3,4,5] retry=true
  For all trainings, what `asrgan train` takes:
    asrgan study run fsa_placement ... -- trainer.devices=2 logger=wandb
  Elsewhere, through any launcher of Hydra:
    asrgan study run fsa_pool_size ... hydra/launcher=submitit_slurm
        hydra.launcher.gpus_per_node=1 hydra.launcher.timeout_min=720

Writes to output_dir (default: outputs/studies/NAME):
  summary.md, summary.csv, per_image.csv   all finished cells
  variants/NAME/seed_N/                    a cell: what `asrgan train` writes; evaluation/
  stages/, references/                     what variants start from; what is evaluated beside
  study.yaml                               the study, complete: asrgan study run DIR goes on
  report/report.html                       one page, complete without a network
  report/report.md, tables.tex, *.csv      its numbers
  report/wandb_report.json                 what wandb=ENTITY/PROJECT sends, with a key
"""

import logging
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from asrgan.building import build_data, check_settings, count_devices
from asrgan.configuration import (
    as_override,
    cause_of,
    compose,
    compose_seeds,
    configuration_folder,
    explain,
    flags_of_this_run,
    flatten,
    launch,
)
from asrgan.data import open_benchmark
from asrgan.engine import offline_runs
from asrgan.errors import IncompleteStudyError, InterruptedRunError, UserError
from asrgan.files import atomic_path, write_text
from asrgan.metrics import METRICS, Protocol
from asrgan.models import SRGANGenerator, check_architecture, load_weights
from asrgan.provenance import code_version, git_commit
from asrgan.searches import PLACE, load_search, write_trials
from asrgan.studies import (
    Agenda,
    CellFolder,
    CellPlan,
    Composer,
    Fingerprints,
    Planner,
    Share,
    Study,
    StudyFolder,
    StudyPlan,
    Watch,
    run_cell,
    run_locally,
    trainings,
    wandb_sweeps,
    write_results,
)
from asrgan.studies.definition import absolute, absolute_weights
from asrgan.studies.identity import FILES, digest
from asrgan.studies.report import (
    ALL,
    WandbReport,
    find,
    load_results,
    make_examples,
    open_benchmarks,
    parse_project,
    shown_runs,
    write_report,
    write_search_report,
)
from asrgan.studies.watch import count, show, shown

log = logging.getLogger(__name__)

_POLL_S = 2.0
# What belongs to one start of a study, not to the study.
_OF_A_START = frozenset(
    ["verb", "action", "output_dir", "jobs", "retry", "mixed_code", "cell", "report", "wandb"]
)


def run(config: DictConfig, output_dir: Path) -> None:
    """Does what the action says."""
    actions: dict[str, Callable[[DictConfig, StudyFolder], None]] = {
        "run": _run,
        "check": _check,
        "status": _show_status,
        "report": _report,
        "sync": _sync,
        "commands": _show_commands,
        "sweep": _write_sweeps,
    }
    if config.action not in actions:
        raise UserError(f"`action` (={config.action}) must be one of {', '.join(actions)}.")
    actions[config.action](config, StudyFolder(output_dir))


def _run(config: DictConfig, folder: StudyFolder) -> None:
    definition = _definition(config)
    study = Study.from_config(definition)
    if config.jobs is not None and config.jobs < 1:
        raise UserError(f"`jobs` (={config.jobs}) must be at least 1.")
    # Nothing is written, not even a lock, before everything is checked.
    if folder.lock.is_held():
        raise _in_other_hands(folder)
    fingerprints = Fingerprints(folder.folder / "fingerprints.json")
    plan, cells = _plan(study, folder, fingerprints, accepts_other_code=config.mixed_code)
    if not folder.lock.acquire():
        raise _in_other_hands(folder)
    try:
        fingerprints.save()
        _write(folder, plan, cells, study, definition)
        agenda = Agenda(folder, retry=config.retry)
        is_stopped = False

        def run_here(cell: CellFolder, share: Share, stop: threading.Event) -> None:
            _check_sources(folder)
            run_cell(cell, share=share, stop=stop)

        with shown(folder):
            if HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
                num_devices = max(cell.num_devices for cell in cells)
                is_stopped = run_locally(
                    agenda, run_here, jobs=config.jobs, num_devices=num_devices
                )
            else:
                _run_elsewhere(agenda, folder)
        _conclude(folder, is_stopped=is_stopped)
    finally:
        folder.lock.release()


def _check(config: DictConfig, folder: StudyFolder) -> None:
    """Everything that comes before the first cell, and writes nothing."""
    study = Study.from_config(_definition(config))
    fingerprints = Fingerprints(folder.folder / "fingerprints.json")
    _, cells = _plan(study, folder, fingerprints, accepts_other_code=config.mixed_code)
    for cell in cells:
        status = folder.cell(cell.path).status()
        log.info("%-40s %8d iterations, %s", cell.path, cell.max_iterations, status)


def _in_other_hands(folder: StudyFolder) -> UserError:
    return UserError(
        f"`{folder.folder}` is in the hands of another `asrgan study run`"
        f" ({folder.lock.holder}); wait for it, or stop it."
    )


def _show_status(config: DictConfig, folder: StudyFolder) -> None:
    del config
    _check_begun(folder)
    show(folder)


def _report(config: DictConfig, folder: StudyFolder) -> None:
    if (folder.folder / PLACE).exists():
        _report_search(config, folder.folder)
        return
    results = load_results(folder)
    for metric, gap in results.gaps.items():
        log.warning("Without %s: %s.", metric, gap)
    settings, scale = config.report, results.scale
    if settings.pictures < 0:
        raise UserError(f"`report.pictures` (={settings.pictures}) must be at least 0.")
    if settings.crop_size_px < scale or settings.crop_size_px % scale:
        nearest = scale * max(1, round(settings.crop_size_px / scale))
        raise UserError(
            f"`report.crop_size_px` (={settings.crop_size_px}) must be divisible by the scale"
            f" (={scale}); try {nearest}."
        )
    project = None if config.wandb is None else parse_project(config.wandb)
    benchmarks, faults = open_benchmarks(folder)
    for fault in faults:
        log.warning("Without pictures: %s", fault)
    total = settings.pictures * len(shown_runs(results))
    with tqdm(total=total, desc="enlarging", unit="picture", leave=False) as bar:
        examples = make_examples(
            results,
            benchmarks,
            count=settings.pictures,
            num_explored=settings.explored,
            crop_size_px=settings.crop_size_px,
            device=settings.device,
            advance=bar.update,
        )
    findings, report = find(results, seed=settings.seed), folder.folder / "report"
    write_report(findings, report, examples=examples)
    log.info("%s\n%-12s%s", findings.answer, "Page", report / "report.html")
    log.info("%-12s%s", "Tables", ", ".join(str(report / n) for n in ("report.md", "tables.tex")))
    if project is not None:
        wandb_report = WandbReport(findings, entity=project[0], project=project[1])
        wandb_report.write(report / "wandb_report.json")
        address = wandb_report.send()
        log.info("%-12s%s", "W&B", address or f"{report / 'wandb_report.json'}, not sent")


def _report_search(config: DictConfig, folder: Path) -> None:
    if config.wandb is not None:
        raise UserError(f"`wandb` (={config.wandb}) takes a study; `{folder}` holds a search.")
    search, report = load_search(folder), folder / "report"
    write_trials(folder / "trials.csv", search)
    log.info("%s", write_search_report(search, report, name=folder.name))
    log.info("%-12s%s", "Page", report / "report.html")
    log.info("%-12s%s, %s", "Tables", report / "report.md", folder / "trials.csv")


def _check_begun(folder: StudyFolder) -> None:
    if folder.plan() is None:
        raise UserError(f"`{folder.folder}` holds no study yet; asrgan study run starts one.")


def _sync(config: DictConfig, folder: StudyFolder) -> None:
    del config
    _check_begun(folder)
    cells = [cell for cell in folder.cells() if cell.status() != "running"]
    runs = [str(run) for cell in cells for run in offline_runs(cell.folder)]
    if runs:
        code = subprocess.call([sys.executable, "-m", "wandb", "sync", *runs])
        if code:
            raise UserError(f"W&B did not take everything (exit code {code}); its lines say why.")
    log.info("%d runs sent to W&B.", len(runs))


def _show_commands(config: DictConfig, folder: StudyFolder) -> None:
    """A line for each stage and variant, which leads into the folders of the study."""
    study = Study.from_config(_definition(config))
    for training in trainings(study, folder, composer=_COMPOSER):
        seeds = ",".join(map(str, training.seeds))
        output_dir = as_override("output_dir", str(folder.folder / training.path))
        words = [*flags_of_this_run(), *training.words, f"seed={seeds}", output_dir]
        subdir = "hydra.sweep.subdir=seed_${seed}"
        log.info("asrgan train -m %s", shlex.join([*words, subdir]))


def _write_sweeps(config: DictConfig, folder: StudyFolder) -> None:
    definition = _definition(config)
    sweeps = wandb_sweeps(
        Study.from_config(definition),
        folder,
        grid=definition["grid"],
        composer=_COMPOSER,
        flags=flags_of_this_run(),
    )
    for name, sweep in sweeps.items():
        path = folder.folder / "sweep" / f"{name}.yaml"
        write_text(path, yaml.safe_dump(sweep, sort_keys=False))
        log.info("wandb sweep %s", shlex.quote(str(path)))


# From the definition to the cells


def _definition(config: DictConfig) -> dict[str, Any]:
    """The study in plain containers, its files with absolute paths."""
    missing = OmegaConf.missing_keys(config)
    for key in sorted(missing, key=lambda key: (not key.startswith("values."), key)):
        raise UserError(f"`{key}` has no value; give it: {key}=...")
    definition = _with_absolute_files(OmegaConf.to_container(config))
    for key in ("overrides", "variant_overrides"):
        definition[key] = _typed_with_absolute_files(definition[key])
    return definition


def _compose(words: Sequence[str], seeds: Sequence[int]) -> list[dict[str, object]]:
    with _explained():
        return [flatten(config) for config in compose_seeds(words, seeds)]


def _check_training(config: Mapping[str, object], start: Mapping[str, object] | None) -> None:
    """Builds a training's parts, so that no wrong width or file comes up hours later.

    Args:
        config: of the training, flat.
        start: of the stage whose weights do not exist yet; None: it starts from none.
    """
    with _explained():
        nested = _nested(config)
        check_settings(nested, num_devices=count_devices(nested))
        build_data(nested, num_workers=0, minimum_size_px=1).setup("validate")
        for part in ("discriminator", "degradation", "optimizer"):
            instantiate(nested[part], _convert_="all")
        generator, weights = _build_generator(nested), nested.generator.weights
        if start is not None:
            check_architecture(generator, _build_generator(_nested(start)), path=weights)
        elif weights is not None:
            load_weights(generator, weights)


def _build_generator(config: DictConfig) -> SRGANGenerator:
    node: dict[str, Any] = dict(config.generator)
    return instantiate({k: v for k, v in node.items() if k != "weights"}, _convert_="all")


def _nested(config: Mapping[str, object]) -> DictConfig:
    """A flat configuration as it was before."""
    nested = OmegaConf.create()
    for key, value in config.items():
        OmegaConf.update(nested, key, value, force_add=True)
    return nested


@contextmanager
def _explained() -> Generator[None]:
    """Words what Hydra finds wrong with a training."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        cause = cause_of(error)
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(explain(error, verb="train")) from error


_COMPOSER = Composer(override=as_override, compose=_compose, check=_check_training)


def _plan(
    study: Study, folder: StudyFolder, fingerprints: Fingerprints, *, accepts_other_code: bool
) -> tuple[StudyPlan, list[CellPlan]]:
    """What the study and its cells are; finds what is wrong before anything is trained."""
    _check_metric(study)
    planner = Planner(
        study,
        folder,
        composer=_COMPOSER,
        fingerprints=fingerprints,
        code={"version": code_version(), "commit": git_commit()},
        flags=flags_of_this_run(),
    )
    cells = planner.cells(accepts_other_code=accepts_other_code)
    scale = cast("int", cells[0].config["scale"])  # of all: the planner has seen to it
    benchmarks: dict[str, str] = {}
    for text in study.benchmarks:
        name = open_benchmark(text, scale=scale).name
        if name in benchmarks:
            raise UserError(f"`benchmarks` has two folders named `{name}`; rename one.")
        if name == ALL:
            raise UserError(
                f"`benchmarks` has a folder named `{name}`, as tables call all of them"
                " together; rename it."
            )
        benchmarks[name] = text
    for cell in cells:
        folder.cell(cell.path).check_files()
    plan = StudyPlan(
        name=study.name,
        question=study.question,
        baseline=study.baseline,
        metric=study.metric,
        difference=study.difference,
        seeds=study.seeds,
        scale=scale,
        benchmarks=benchmarks,
        cells=[cell.path for cell in cells],
        home=str(folder.folder),
        sources=_sources(),
    )
    return plan, cells


def _write(
    folder: StudyFolder,
    plan: StudyPlan,
    cells: Sequence[CellPlan],
    study: Study,
    definition: Mapping[str, Any],
) -> None:
    earlier = folder.plan()
    if earlier is not None and earlier.home != plan.home:
        log.info("The study lay in %s before, and goes on here.", earlier.home)
    for cell in cells:
        folder.cell(cell.path).write_plan(cell)
    folder.write_plan(plan)
    complete = {key: value for key, value in definition.items() if key not in _OF_A_START} | {
        "benchmarks": study.benchmarks,
        "references": study.references,
        "data": {"train": study.train, "validation": study.validation},
        "values": {},  # what referred to them, and to the size, holds what they were
        "begun_size": definition["size"],
    }
    with atomic_path(folder.definition_path) as temporary:
        OmegaConf.save(OmegaConf.create(complete), temporary)


def _check_metric(study: Study) -> None:
    if study.metric not in METRICS:
        raise UserError(f"`metric` (={study.metric}) must be one of {', '.join(METRICS)}.")
    overrides = {"models": ["bicubic"], "benchmarks": study.benchmarks, **study.evaluate}
    try:
        evaluation = compose("evaluate", _COMPOSER.overrides(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"`evaluate`: {explain(error, verb='evaluate')}") from error
    if study.metric not in evaluation["metrics"]:
        raise UserError(
            f"`metric` (={study.metric}) is none that is evaluated"
            f" ({', '.join(evaluation['metrics'])}); add it to `evaluate.metrics`."
        )
    if Protocol(scale=evaluation["scale"], metrics=[study.metric]).missing:
        raise UserError(
            f"`metric` (={study.metric}) cannot be computed without its weights; put them where the"
            " line above says, or take another metric."
        )


def _with_absolute_files(node: object) -> Any:
    """A definition in which files mean the same from any folder."""
    if isinstance(node, Mapping):
        return {
            key: _absolute(value, key) if key in FILES else _with_absolute_files(value)
            for key, value in cast("Mapping[str, object]", node).items()
        }
    return node


def _absolute(value: object, key: str) -> object:
    if isinstance(value, list):
        return [_absolute(item, key) for item in cast("list[object]", value)]
    make = absolute_weights if key == "generator.weights" else absolute
    return make(value) if isinstance(value, str) else value


def _typed_with_absolute_files(words: Sequence[str]) -> list[str]:
    """The same of overrides as they are typed."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise UserError(f"behind `--`: {' '.join(str(error).split())}") from error
    return [
        as_override(override.key_or_group, _absolute(override.value(), override.key_or_group))
        if override.key_or_group in FILES
        else word
        for override, word in zip(overrides, words, strict=True)
    ]


# Running


def _run_launched(config: DictConfig) -> None:
    study = StudyFolder(Path(config.output_dir))
    _check_sources(study)
    run_cell(study.cell(config.cell))


def _run_elsewhere(agenda: Agenda, folder: StudyFolder) -> None:
    """Runs cells through Hydra's launcher: first those that others start from."""
    common = [as_override("action", "run"), as_override("output_dir", str(folder.folder))]
    while True:
        if cells := agenda.take_all():
            paths = [cell.folder.relative_to(folder.folder).as_posix() for cell in cells]
            try:
                launch(_run_launched, [[*common, as_override("cell", path)] for path in paths])
            except Exception as error:  # a launcher raises anything; the cells say how they stand
                log.warning("The launcher says: %s", " ".join(str(error).split()))
        elif agenda.is_waiting_for_others():
            time.sleep(_POLL_S)
        else:
            return


def _sources() -> str:
    """A hash of code and configuration, which each process of a study reads anew."""
    files = sorted(configuration_folder().rglob("*.yaml"))
    return digest([code_version(), *(file.read_text(encoding="utf-8") for file in files)])


def _check_sources(study: StudyFolder) -> None:
    plan = study.plan()
    assert plan is not None
    if plan.sources != _sources():
        raise UserError(
            "the code or conf/ has changed since `asrgan study run` started, so it starts nothing"
            " more; the same command says what the change means."
        )


def _conclude(folder: StudyFolder, *, is_stopped: bool) -> None:
    """Writes the tables of what is finished, and says where everything is and what is missing."""
    if text := write_results(folder):
        log.info("\n%s\n%-12s%s", text, "Table", folder.folder / "summary.md")
        log.info("%-12s%s", "Cells", folder.folder / "variants")
    standings = Watch(folder).look()
    if is_stopped:
        raise InterruptedRunError(f"Stopped: {count(standings)}. The same command goes on.")
    failed = [standing for standing in standings if standing.status == "failed"]
    for standing in failed:
        log.info("%s failed: %s", standing.path, standing.reason)
    if any(standing.status != "finished" for standing in standings):
        way = "retry=true tries what failed once more" if failed else "the same command goes on"
        raise IncompleteStudyError(f"{count(standings)}; {way}.")
