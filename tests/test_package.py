"""What a user installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from asrgan.configuration import configuration_folder
from asrgan.weights import published

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as pip lays it into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*command, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()}


def test_the_wheel_holds_the_whole_configuration(installed: Path):
    assert files_below(installed / "asrgan" / "conf") == files_below(ROOT / "conf")


def test_the_wheel_holds_every_study(installed: Path):
    studies = {
        path.relative_to(ROOT / "experiments") for path in ROOT.glob("experiments/*/study.yaml")
    }
    shipped = installed / "asrgan" / "experiments"
    assert {path.relative_to(shipped) for path in shipped.rglob("*.*")} == studies


def test_the_wheel_holds_every_published_generator_with_its_card(installed: Path):
    folder = Path("asrgan", "weights")
    shipped = files_below(installed / folder)
    assert shipped == {name for name in files_below(ROOT / "src" / folder) if "cache" not in name}
    files = {f"{name}{suffix}" for name in published() for suffix in (".safetensors", ".md")}
    assert shipped == {"__init__.py", "sha256sums.txt", *files}


def test_the_wheel_holds_the_page_of_a_report_and_the_licences_of_its_scripts(installed: Path):
    page = Path("asrgan", "studies", "report", "page")
    assert files_below(installed / page) == files_below(ROOT / "src" / page)
    licences = {path.name for path in installed.glob("*.dist-info/licenses/**/*") if path.is_file()}
    assert licences == {"LICENSE", "d3.LICENSE", "plot.LICENSE"}


def test_the_installed_package_composes_from_its_own_files(installed: Path, tmp_path: Path):
    code = "; ".join(
        [
            f"import sys; sys.path.insert(0, {str(installed)!r})",
            "from asrgan import cli, configuration",
            "print(configuration.configuration_folder())",
            "sys.argv = ['asrgan', 'train', 'experiment=asrgan_x4', '--cfg', 'job']",
            "cli.main()",
        ]
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == str(installed / "asrgan" / "conf")
    assert "spectral_norm: true" in done.stdout


def test_this_checkout_uses_the_configuration_at_its_root():
    assert configuration_folder() == ROOT / "conf"


def test_conda_users_get_what_pip_users_get():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"][-1] == {
        "pip": ["--constraint constraints.txt", "--editable .[dev]"]
    }


def test_constraints_are_plain_pins():
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        name, _, version = line.partition("==")
        assert name
        assert version
        assert not set(line) & set("@/;[ ")
