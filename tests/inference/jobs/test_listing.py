from pathlib import Path

import pytest

from asrgan.errors import UserError
from asrgan.inference.jobs import Job, Recipe, find_jobs, folder_at


def find(
    given: Path,
    output: Path,
    *,
    format_: str | None = None,
    column: str = "path",
    left_out: list[tuple[str, str]] | None = None,
) -> list[Job]:
    told: list[tuple[str, str]] = [] if left_out is None else left_out
    return find_jobs(
        str(given),
        folder_at(str(output)),
        Recipe("w", format=format_),
        column=column,
        report=lambda *why: told.append(why),
    )


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_results_keep_the_structure_of_a_folder(tmp_path: Path):
    files(tmp_path, "in/a.jpg", "in/b/ü ñ.png", "in/b/c/d.TIFF", "in/notes.txt", "in/.hidden.png")
    jobs = find(tmp_path / "in", tmp_path / "out")
    assert [(job.name, job.target) for job in jobs] == [
        (name, name) for name in ("a.jpg", "b/c/d.TIFF", "b/ü ñ.png")
    ]
    assert all(Path(job.source).exists() for job in jobs)
    assert [job.target for job in find(tmp_path / "in", tmp_path / "out", format_="png")] == [
        "a.png",
        "b/c/d.png",
        "b/ü ñ.png",
    ]


def test_what_is_no_picture_is_told_but_for_results(tmp_path: Path):
    files(tmp_path, "a.jpg", "b/notes.txt", "c.heic", ".hidden", "large/a.jpg", "large/results.csv")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    left_out: list[tuple[str, str]] = []
    assert [job.name for job in find(tmp_path, tmp_path / "large", left_out=left_out)] == ["a.jpg"]
    assert sorted(left_out) == [
        ("b/notes.txt", "is no image file by its name"),
        ("c.heic", "is no image file by its name"),
        ("lost.png", "leads to no file"),
    ]


def test_results_inside_the_folder_are_no_originals(tmp_path: Path):
    files(tmp_path, "a.jpg", "large/a.jpg", "large/b.jpg")
    assert [job.name for job in find(tmp_path, tmp_path / "large")] == ["a.jpg"]


def test_originals_that_would_share_a_name_keep_their_suffixes(tmp_path: Path):
    files(tmp_path, "in/a.jpg", "in/a.png", "in/a.webp", "in/b.jpg")
    jobs = find(tmp_path / "in", tmp_path / "out", format_="png")
    assert {job.name: job.target for job in jobs} == {
        "a.jpg": "a.jpg.png",
        "a.png": "a.png",
        "a.webp": "a.webp.png",
        "b.jpg": "b.png",
    }


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_lists_name_originals_beside_them_or_anywhere(suffix: str, tmp_path: Path):
    entries = ["a.jpg", "sub/b c.png", str(tmp_path / "other" / "c.jpg"), "../other/d.jpg", "a.jpg"]
    path = tmp_path / "lists" / f"list{suffix}"
    path.parent.mkdir()
    if suffix == ".txt":
        path.write_text("\n\n".join(entries) + "\n", "utf-8")
    elif suffix == ".csv":
        path.write_text("id,path\n" + "".join(f'1,"{entry}"\n' for entry in entries), "utf-8")
    else:
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        pyarrow = pytest.importorskip("pyarrow")
        parquet.write_table(pyarrow.table({"id": [1] * 5, "path": entries}), path)
    jobs = find(path, tmp_path / "out")
    below_root = tmp_path.relative_to("/").as_posix()
    assert [(Path(job.source).resolve(), job.target) for job in jobs] == [
        (tmp_path / "lists" / "a.jpg", "a.jpg"),
        (tmp_path / "lists" / "sub" / "b c.png", "sub/b c.png"),
        (tmp_path / "other" / "c.jpg", f"{below_root}/other/c.jpg"),
        (tmp_path / "other" / "d.jpg", f"{below_root}/other/d.jpg"),
    ]


def test_an_original_that_a_list_names_twice_is_one(tmp_path: Path):
    files(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (tmp_path / "other.jpg").symlink_to(tmp_path / "a.jpg")  # of a name of its own
    entries = ["./a.jpg", "a.jpg", ".//a.jpg", "sub/../a.jpg", f"{tmp_path}/a.jpg"]
    entries += ["other.jpg", "sub/b.jpg", "link/b.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(entries))
    jobs = find(tmp_path / "list.txt", tmp_path / "out")
    assert [job.target for job in jobs] == ["a.jpg", "other.jpg", "sub/b.jpg"]


def test_originals_that_share_a_name_even_so_are_refused(tmp_path: Path):
    files(tmp_path, "in/a.jpg", "in/a.webp", "in/a.jpg.png")
    with pytest.raises(
        UserError, match=r"2 originals would become a\.jpg\.png; rename all but one"
    ):
        find(tmp_path / "in", tmp_path / "out", format_="png")


def test_a_table_has_to_have_the_column(tmp_path: Path):
    (tmp_path / "list.csv").write_text("file,size\na.jpg,1\n")
    with pytest.raises(UserError, match="has no column `path`; name one with column=: file, size"):
        find(tmp_path / "list.csv", tmp_path / "out")
    (job,) = find(tmp_path / "list.csv", tmp_path / "out", column="file")
    assert job.name == "a.jpg"


def test_one_picture_goes_into_a_folder(tmp_path: Path):
    files(tmp_path, "sub/a.jpg")
    assert find(tmp_path / "sub" / "a.jpg", tmp_path / "out") == [
        Job(f"{tmp_path}/sub/a.jpg", "a.jpg", "a.jpg")
    ]


def test_nothing_to_do_is_a_mistake(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    for name, message in {
        "empty": "holds no picture",
        "empty.txt": "lists no picture",
        "binary.txt": "cannot be read",
        "absent": "does not exist; give a picture, a folder or a list",
        "absent.csv": "cannot be read: No such file",
    }.items():
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            find(tmp_path / name, tmp_path / "out")


def test_no_result_takes_the_place_of_an_original(tmp_path: Path):
    files(tmp_path, "in/a.jpg", "in/b.png")
    with pytest.raises(UserError, match="is the folder of the originals"):
        find(tmp_path / "in", tmp_path / "in")
    with pytest.raises(UserError, match=r"would put a\.jpg in the place of an original"):
        find(tmp_path / "in" / "a.jpg", tmp_path / "in")
    # Also through another name of the folder, and for another original of the list.
    (tmp_path / "link").symlink_to(tmp_path / "in")
    files(tmp_path, "else/a.jpg")
    (tmp_path / "else" / "list.txt").write_text(f"a.jpg\n{tmp_path}/in/a.jpg\n")
    with pytest.raises(UserError, match=r"would put a\.jpg in the place of an original"):
        find(tmp_path / "else" / "list.txt", tmp_path / "link")
    assert find(tmp_path / "in" / "a.jpg", tmp_path / "in", format_="webp")
