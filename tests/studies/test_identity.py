import os
from pathlib import Path

import pytest

from asrgan.errors import UserError
from asrgan.studies.identity import Fingerprints, digest, science


def test_where_and_how_a_run_is_watched_is_no_science():
    config = {
        "experiment": "srgan_x4",
        "seed": 3,
        "output_dir": "x",
        "logger": {},
        "logger.wandb.project": "x",
        "data.train": "x",
        "data.crop_size_px": 96,
        "trainer.accelerator": "gpu",
        "trainer.precision": "auto",
        "generator.weights": None,
        "generator.weights_decay": 1,
    }
    assert science(config) == {
        "data.crop_size_px": 96,
        "trainer.precision": "auto",
        "generator.weights_decay": 1,
    }


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder)


def fingerprint(path: str, cache: Path) -> str:
    return Fingerprints(cache).of(path, key="data.train")


def test_a_folder_is_known_by_what_it_holds_wherever_it_is(tmp_path: Path):
    cache = tmp_path / "cache.json"
    one = write(tmp_path / "one", a="1", b__c="2")
    same = write(tmp_path / "same", b__c="2", a="1", **{".hidden": "3"})
    (tmp_path / "link").symlink_to(one)
    renamed = write(tmp_path / "renamed", a="1", b__d="2")
    edited = write(tmp_path / "edited", a="1", b__c="3")
    expected = fingerprint(one, cache)
    assert fingerprint(same, cache) == expected
    assert fingerprint(str(tmp_path / "link"), cache) == expected
    assert len({expected, fingerprint(renamed, cache), fingerprint(edited, cache)}) == 3


def test_a_link_upwards_does_not_go_round(tmp_path: Path):
    folder = write(tmp_path / "one", a="1")
    before = fingerprint(folder, tmp_path / "cache.json")
    (tmp_path / "one" / "up").symlink_to(tmp_path / "one")
    assert fingerprint(folder, tmp_path / "cache.json") == before


def test_what_is_known_is_not_read_again_until_it_changes(tmp_path: Path):
    path = tmp_path / "photo"
    path.write_text("1", encoding="utf-8")
    fingerprints = Fingerprints(tmp_path / "cache.json")
    before = fingerprints.of(str(path), key="data.train")
    fingerprints.save()
    status = path.stat()
    path.write_text("2", encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(str(path), tmp_path / "cache.json") == before
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(str(path), tmp_path / "cache.json") != before


def test_what_cannot_be_read_is_told_with_its_key(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name, fault in {
        "nowhere": "cannot be read: No such file",
        "empty": "holds no files",
    }.items():
        with pytest.raises(UserError, match=rf"`data.train` \(=.*{name}\) {fault}"):
            fingerprint(str(tmp_path / name), tmp_path / "cache.json")
