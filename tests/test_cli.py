import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from skimage import data

from asrgan import cli
from asrgan.configuration import compose, quoted
from asrgan.imaging import read_image, write_image

Run = Callable[..., Any]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_the_verbs(asrgan: Run, arguments: Sequence[str]):
    result = asrgan(*arguments)
    assert result.code == 0
    for verb in cli.VERBS:
        assert f"  {verb}" in result.out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_has_examples_and_the_groups(asrgan: Run, verb: str):
    result = asrgan(verb, "--help")
    assert f"asrgan {verb}" in result.out
    assert "Examples:" in result.out
    groups = "experiment            asrgan_x4, srgan_finetune_x4" in result.out
    assert groups == (verb == "train")


def test_help_does_not_load_torch():
    code = (
        "import sys; sys.argv = ['asrgan', 'train', '--help']; from asrgan import cli; cli.main();"
    )
    command = [sys.executable, "-c", code + "assert 'torch' not in sys.modules"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "experiment=asrgan_x4", "--cfg", "job"], "spectral_norm: true"),
        (["study", "run", "quickstart", "data.train=x", "--cfg", "job"], "action: run"),
        (["study", "run", "quickstart", "--cfg", "job"], "name: quickstart"),
        (["study", "run", "quickstart", "--cfg", "job", "data.train=x"], "train: x"),
    ],
)
def test_the_configuration_is_shown_without_running(
    asrgan: Run, tmp_path: Path, arguments: Sequence[str], line: str
):
    result = asrgan(*arguments)
    assert result.code == 0
    assert line in result.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], f"`trian` is no verb; try one of: {', '.join(cli.VERBS)}."),
        (["train", "max_iteration=3"], "did you mean max_iterations?"),
        (
            ["train", "data.tarin=x"],
            "`data.tarin` is no key of `asrgan train`; did you mean data.train",
        ),
        (
            ["train", "discriminator=vgg", "discriminator={stride: 2}"],
            "use +discriminator={stride: 2}",
        ),
        (
            ["train", "experiment=asrgan_x4", "generator.attention={after: trunk}"],
            "generator.attention={after: trunk}: Cannot merge DictConfig with ListConfig",
        ),
        (["train", "experiment=srgan_x3"], "Could not find 'experiment/srgan_x3'"),
        (["train", "seed"], "seed"),
        (["train"], "`data.train` has no value; give it: data.train=..."),
        (["evaluate", "benchmarks=[x]"], "`models` has no value"),
        (["train", "data.train=.", "data.validation=null"], "no image"),
        (
            ["train", "data.train=.", "data.validation=null", "data.crop_size_px=95"],
            "`crop_size_px` (=95) must be a positive multiple of `scale` (=4); try 96.",
        ),
        (["evaluate", "models=[a.pth]", "benchmarks=[x]"], "`a.pth` does not exist"),
        (["evaluate", "models=[]", "benchmarks=[x]"], "`models` names no model"),
        (["evaluate", "models=[bicubic]", "benchmarks=[x]"], "x does not exist"),
        (["evaluate", "models=[bicubic]", "benchmarks=[]"], "`benchmarks` names no folder"),
        (["evaluate", "models=[bicubic,bicubic]", "benchmarks=[x]"], "two models named `bicubic`"),
        (["evaluate", "models=[bicubic]", "benchmarks=[x]", "device=cuda:9"], "torch finds no GPU"),
        (
            ["evaluate", "models=[bicubic]", "benchmarks=[x]", "require={ssim: '>=0.75'}"],
            "`require.ssim` is no metric; known are psnr_y_db",
        ),
        (
            ["evaluate", "models=[bicubic]", "benchmarks=[x]", "require={ssim_y: 0.75}"],
            "`require.ssim_y` (=0.75) must be a comparison and a number",
        ),
        (["export", "weights=a.pth", "format=onnx"], "`output` has no value"),
        (["export", "weights=a.pth", "format=onnx", "output=b.onnx"], "`a.pth` does not exist"),
        (["export", "weights=.", "format=onnx", "output=b.onnx"], "give generator.safetensors."),
        (["doctor", "weights=..", "size=10x10"], "`..` is a folder and no weights file"),
        (["doctor", "crop_sizes_px=a"], "`crop_sizes_px` (=a) must be whole numbers of at least 1"),
        (["upscale", "input=x", "overwrite=no"], "`overwrite` (=no) must be true or false"),
        (["upscale", "input=x", "overwrite=1"], "`overwrite` (=1) must be true or false"),
        (["upscale", "input=x", "scale_to=a"], "`scale_to` (=a) must be a whole number of px"),
        (
            ["evaluate", "models=bicubic", "benchmarks=x", "scale=x4"],
            "`scale` (=x4) must be a number",
        ),
        (
            ["train", "data.train=x", "optimizer.average_decay=a"],
            "`optimizer.average_decay` (=a) must be a number",
        ),
        # A number of the chosen experiment, not of the default one.
        (
            ["train", "data.train=x", "experiment=srgan_x4", "discriminator.num_features=many"],
            "`discriminator.num_features` (=many) must be a number",
        ),
        # Names that Hydra reads as numbers.
        (["upscale", "input=2024"], "`input` (=2024) does not exist"),
        (["evaluate", "models=2024", "benchmarks=[x]"], "`2024` does not exist"),
        (["evaluate", "models=[2024]", "benchmarks=[x]"], "`2024` does not exist"),
        (["evaluate", "models=bicubic", "benchmarks=2024"], "2024 does not exist"),
        (["evaluate", "models=bicubic", "benchmarks=[2024]"], "2024 does not exist"),
        (["prepare", "input=2024", "output=2025"], "2024 does not exist"),
        (["export", "weights=2024", "format=onnx", "output=b.onnx"], "`2024` does not exist"),
        (["doctor", "weights=2024", "size=10x10"], "`2024` does not exist"),
        (["train", "data.train=x", "data.validation=2024"], "2024 does not exist"),
        (["train", "data.train=x", "data.validation=[2024]"], "2024 does not exist"),
        (["train", "data.train=2024", "data.validation=null"], "2024 does not exist"),
        (
            ["train", "data.train=file://x", "data.validation=null", "data.stream_cache_dir=7"],
            "file://x holds no finished output",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    asrgan: Run, tmp_path: Path, arguments: Sequence[str], message: str
):
    result = asrgan(*arguments)
    assert result.code == 2
    assert result.err.startswith("asrgan: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert tmp_path.is_dir()  # also where output_dir is this folder
    assert not list(tmp_path.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("file", "is a file; name a folder."),
        ("file/run", "leads through a file; name a folder."),
        ("x" * 300, "is too long; choose a shorter name."),
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "models=[bicubic]", "benchmarks=[x]", "output_dir="],
        ["train", "-m", "seed=1,2", "data.train=x", "data.validation=x", "output_dir="],
        ["prepare", "input=x", "output="],
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_cannot_be_a_folder_is_one_line(
    asrgan: Run, tmp_path: Path, words: list[str], place: str, rule: str
):
    (tmp_path / "file").touch()
    result = asrgan(*words[:-1], words[-1] + place)
    assert (result.code, result.err) == (2, f"asrgan: `{place}` {rule}\n")


def test_folders_may_have_names_that_are_numbers(
    asrgan: Run, tiny_weights: Callable[[int], Path], tmp_path: Path
):
    write_image(tmp_path / "2024" / "7.png", data.chelsea()[:96, :96])
    (tmp_path / "list.csv").write_text("1,2\n2024/7.png,x\n")
    for given in ("input=2024", "input=list.csv column=1"):
        words = [f"weights={tiny_weights(4)}", "device=cpu", *given.split(), "output=2025"]
        assert asrgan("upscale", *words).code == 0
    assert read_image(tmp_path / "2025" / "7.png").shape == (384, 384, 3)
    assert read_image(tmp_path / "2025" / "2024" / "7.png").shape == (384, 384, 3)
    words = ["benchmarks=2024", "metrics=[psnr_y_db]", "gallery=null", "output_dir=2026"]
    assert asrgan("evaluate", "models=[bicubic,1:bicubic]", "baseline=1", *words).code == 0
    assert (tmp_path / "2026" / "summary.csv").exists()
    result = asrgan("prepare", "input=2024", "output=2027", "held_out=2024")
    assert "none of the 1 photographs in 2024 can be used" in result.err
    assert "7.png,is a copy of 2024/7.png" in (tmp_path / "2027/rejected.csv").read_text("utf-8")


def test_debug_shows_the_traceback(asrgan: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASRGAN_DEBUG", "1")
    result = asrgan("evaluate", "models=[]", "benchmarks=[x]")
    assert "Traceback" in result.err
    assert result.code == 2


def test_an_error_of_our_own_keeps_its_traceback(asrgan: Run, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("asrgan.evaluate.run", broken)
    result = asrgan("evaluate", "models=[bicubic]", "benchmarks=[x]")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "ZeroDivisionError: a bug" in result.err


def test_two_runs_never_share_a_default_folder(asrgan: Run, monkeypatch: pytest.MonkeyPatch):
    folders: list[Path] = []
    monkeypatch.setattr("asrgan.evaluate.run", lambda config, folder: folders.append(folder))
    for _ in range(3):
        asrgan("evaluate", "models=[bicubic]", "benchmarks=[x]")
    assert len(set(folders)) == 3
    assert {folder.parent.relative_to(Path.cwd()) for folder in folders} == {
        Path("outputs/evaluate")
    }


def test_each_run_of_a_sweep_has_its_own_folder_and_arguments(
    asrgan: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    seen: list[tuple[int, str, list[str]]] = []

    def note(config: object, folder: Path) -> None:
        seen.append((config.seed, folder.name, sys.argv))

    monkeypatch.setattr("asrgan.train.run", note)
    result = asrgan(
        "train", "-m", "seed=5,7", "data.train=x", "data.validation=y", f"output_dir={tmp_path}/s"
    )
    assert result.code == 0, result.err
    assert [(seed, name) for seed, name, _ in seen] == [(5, "0"), (7, "1")]
    # A further process of DDP would be started with these: one job, not the sweep.
    assert seen[1][2] == [
        "asrgan",
        "train",
        "seed=7",
        "data.train=x",
        "data.validation=y",
        f"output_dir={tmp_path}/s/1",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("asrgan ", " ".join(cli.VERBS)),
        ("asrgan tr", " ".join(cli.VERBS)),
        ("asrgan train experiment=srr", "experiment=srresnet_x4"),
        ("asrgan train generator.num_b", "generator.num_blocks="),
        ("asrgan evaluate save", "save_images="),
    ],
)
def test_tab_completes_verbs_groups_and_keys(
    asrgan: Run, monkeypatch: pytest.MonkeyPatch, line: str, expected: str
):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert expected in asrgan("-sc", "query=bash").out


def test_nothing_completes_an_unknown_verb(asrgan: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMP_LINE", "asrgan trian exp")
    assert asrgan("-sc", "query=bash") == (0, "", "")


def test_the_installed_command_works_from_any_folder(tmp_path: Path):
    command = [str(Path(sys.executable).with_name("asrgan")), "train", "--cfg", "job"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert "max_iterations: 1000000" in done.stdout


@pytest.mark.parametrize(
    "text", ["a/b.c-d", "null", "a b", "a,b", "jürgen", "x(2)", "lr=1", "it's", "a\\", "\\'", "[x]"]
)
def test_a_quoted_value_comes_back_through_hydras_grammar(text: str):
    assert compose("evaluate", [f"models=[{quoted(text)}]", "benchmarks=[x]"])["models"] == [text]
