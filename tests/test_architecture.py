"""Who may import whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "asrgan"
BASE = {
    "console",
    "downloads",
    "errors",
    "files",
    "hardware",
    "imaging",
    "pictures",
    "provenance",
    "searches",
    "subprocesses",
    "weights",
}
TOPICS = {"data", "models", "losses", "metrics"}
WORKINGS = {"engine", "inference"}
VERBS = {"train", "evaluate", "export", "upscale", "prepare", "study", "doctor"}
COMPOSING = VERBS | {"cli", "configuration", "building"}  # the only ones that know Hydra

# Beside itself, each part may import these; its layer's siblings are not among them.
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    **dict.fromkeys(TOPICS, BASE),
    **dict.fromkeys(WORKINGS, BASE | TOPICS),
    "spandrel": BASE | TOPICS,
    "studies": BASE | TOPICS | WORKINGS,
    "configuration": BASE | TOPICS | WORKINGS | {"studies"},
    "building": BASE | TOPICS | WORKINGS,
    **dict.fromkeys(VERBS, BASE | TOPICS | WORKINGS | {"studies", "configuration", "building"}),
    "__main__": {"cli"},
    "cli": BASE | TOPICS | WORKINGS | {"studies", "configuration"} | VERBS,
}

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
each_source = pytest.mark.parametrize(
    "source", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def part_of(source: Path) -> str:
    return source.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_sources_are_found():
    assert {"errors", "imaging", "losses", "metrics"} <= {part_of(source) for source in SOURCES}


@each_source
def test_a_part_imports_only_parts_below_it(source: Path):
    part = part_of(source)
    assert part in MAY_IMPORT, f"give the new part {part!r} its place in MAY_IMPORT"
    imported = {
        name.split(".")[1] for name in imported_modules(source) if name.startswith("asrgan.")
    }
    assert imported <= MAY_IMPORT[part] | {part}


@each_source
def test_only_the_verbs_know_hydra(source: Path):
    imported = {name.split(".")[0] for name in imported_modules(source)}
    assert part_of(source) in COMPOSING or not imported & {"hydra", "omegaconf"}


@each_source
def test_only_the_verbs_print(source: Path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert part_of(source) in VERBS | {"cli"} or "print" not in called
