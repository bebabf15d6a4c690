import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import albumentations
import fsspec
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader

from asrgan.data import (
    Crops,
    FolderStorage,
    ImageSource,
    IterationBatches,
    Preparation,
    Shards,
    StreamedStorage,
    Tiling,
    open_source,
)
from asrgan.data import storage as storage_module
from asrgan.errors import UserError
from asrgan.imaging import write_image

NUM_PHOTOGRAPHS = 40
TILES_PER_SHARD = 12  # of 120 in 10 shards
CROP_SIZE_PX = 24


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten shards of three tiles each of four photographs of noise; no crop is like another."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(NUM_PHOTOGRAPHS):
        image = generator.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        write_image(folder / "photographs" / f"{number}.png", image)
    preparation = Preparation(
        folder / "photographs",
        folder / "prepared",
        tiling=Tiling(
            tile_size_px=32,
            overlap_px=16,
            downscale=1,
            minimum_size_px=32,
            flat_below=0,
            flat_kept=0,
            tile_format="png",
            quality=None,
        ),
        shard_mib=0.033,
        held_out=[],
        held_out_bits=0,
        num_workers=1,
    )
    with preparation.exclusive():
        preparation.run(progress=lambda: None)
    return folder / "prepared"


class Server(ThreadingHTTPServer):
    """Serves a folder on this machine and counts what is asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/prepared"

    def count(self, name: str) -> int:
        return sum(path.endswith(name) for path in self.asked)


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(prepared: Path) -> Iterator[Server]:
    with Server(prepared.parent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Open = Callable[..., ImageSource]


@pytest.fixture
def open_shards(tmp_path: Path) -> Open:
    def open_(location: Path | str, **changes: object) -> ImageSource:
        settings = {
            "minimum_size_px": CROP_SIZE_PX,
            "cache_mib": 0,
            "shuffle_shards": 2,
            "stream_cache_dir": tmp_path / "cache",
            "stream_cache_mib": 100,
        }
        return open_source(location, **(settings | changes))

    return open_


def crops_of(source: ImageSource, *, seed: int = 1) -> Crops:
    augmentation = [albumentations.HorizontalFlip(p=0.5), albumentations.RandomRotate90(p=1)]
    return Crops(source, crop_size_px=CROP_SIZE_PX, seed=seed, augmentation=augmentation)


def batches_of(
    crops: Crops,
    *,
    num_workers: int = 0,
    first: int = 0,
    last: int = 40,
    batch_size: int = 8,
    rank: int = 0,
    world_size: int = 1,
) -> list[Tensor]:
    sampler = IterationBatches(
        first_iteration=first,
        last_iteration=last,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
    )
    return list(DataLoader(crops, batch_sampler=sampler, num_workers=num_workers))


def test_the_shards_are_as_expected(prepared: Path):
    assert len(list(prepared.glob("shard-*.tar"))) == 10
    assert len(np.load(prepared / "tiles.npy")) == 120


# Three workers may be more than there are cores: on purpose.
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes:UserWarning")
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_any_number_of_workers_any_rank_and_any_restart_give_the_same_crops(
    num_workers: int, is_streamed: bool, prepared: Path, server: Server, open_shards: Open
):
    expected = batches_of(crops_of(open_shards(prepared)))
    assert len({crop.numpy().tobytes() for batch in expected for crop in batch}) > 310
    source = open_shards(server.url if is_streamed else prepared)
    torch.manual_seed(num_workers)  # what workers derive their own seeds from
    batches = batches_of(crops_of(source), num_workers=num_workers)
    assert torch.equal(torch.stack(batches), torch.stack(expected))
    resumed = batches_of(crops_of(source), num_workers=num_workers, first=17)
    assert torch.equal(torch.stack(resumed), torch.stack(expected[17:]))
    shares = [
        batches_of(crops_of(source), num_workers=num_workers, batch_size=2, rank=rank, world_size=4)
        for rank in range(4)
    ]
    for batch, *parts in zip(expected, *shares, strict=True):
        assert torch.equal(torch.cat(parts), batch)


def test_another_seed_gives_other_crops(prepared: Path, open_shards: Open):
    source = open_shards(prepared)
    one, other = (batches_of(crops_of(source, seed=seed), last=5) for seed in (1, 2))
    assert not any(torch.equal(a, b) for a, b in zip(torch.cat(one), torch.cat(other), strict=True))


@pytest.mark.parametrize("shuffle_shards", [1, 2, 4, 100])
def test_a_pass_takes_every_tile_once_and_needs_few_shards_at_a_time(
    shuffle_shards: int, prepared: Path, open_shards: Open
):
    source = open_shards(prepared, shuffle_shards=shuffle_shards)
    shard_of = np.load(prepared / "tiles.npy")["shard"]
    orders = [source.order(np.random.default_rng((1, epoch))) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(120))
        shards = shard_of[order]
        first = {shard: int(np.argmax(shards == shard)) for shard in range(10)}
        last = {shard: 119 - int(np.argmax(shards[::-1] == shard)) for shard in range(10)}
        at_once = [
            sum(first[shard] <= place <= last[shard] for shard in range(10)) for place in range(120)
        ]
        assert max(at_once) <= shuffle_shards + 1
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], source.order(np.random.default_rng((1, 0))))


def test_the_tiles_of_a_pass_are_well_mixed(prepared: Path, open_shards: Open):
    source = open_shards(prepared, shuffle_shards=4)
    tiles = np.load(prepared / "tiles.npy")
    order = source.order(np.random.default_rng(0))
    batches = tiles["photograph"][order].reshape(15, 8)
    assert np.mean([len(set(batch)) for batch in batches]) > 6  # 8 photographs would be ideal


def test_tiles_that_are_smaller_than_a_crop_are_left_out_and_counted(
    prepared: Path, tmp_path: Path, open_shards: Open, caplog: pytest.LogCaptureFixture
):
    assert len(open_shards(prepared)) == 120
    assert caplog.messages == []
    with pytest.raises(
        UserError,
        match=r"`crop_size_px` \(=96\) must not exceed .* \(at most 32 px in .*prepared\)",
    ):
        open_shards(prepared, minimum_size_px=96)
    folder = copy_of(prepared, tmp_path)
    tiles = np.load(folder / "tiles.npy")
    tiles["height"][:7] = 20
    np.save(folder / "tiles.npy", tiles)
    sign(folder)
    assert len(open_shards(folder)) == 113
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "left out: 7 of the 120 tiles in" in record.message


def copy_of(prepared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy" / "prepared"
    folder.mkdir(parents=True)
    for path in prepared.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def sign(folder: Path) -> None:
    """Makes the manifest agree with a changed table."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    digest = storage_module.hashlib.sha256((folder / "tiles.npy").read_bytes()).hexdigest()
    manifest["tiles"]["sha256"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_copy_that_is_not_whole_is_refused_before_training(
    prepared: Path, tmp_path: Path, open_shards: Open
):
    folder = copy_of(prepared, tmp_path)
    shard = folder / "shard-00003.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(
        UserError, match=r"shard-00003\.tar has \d+ bytes, the manifest says \d+; co"
    ):
        open_shards(folder)
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-00003\.tar has 0 bytes, the manifest says"):
        open_shards(folder)
    shard.write_bytes(whole)
    table = (folder / "tiles.npy").read_bytes()
    (folder / "tiles.npy").write_bytes(table[:-8])
    with pytest.raises(UserError, match=r"tiles\.npy is damaged; copy or prepare it anew"):
        open_shards(folder)
    (folder / "tiles.npy").unlink()
    with pytest.raises(UserError, match=r"holds no finished output of `asrgan prepare`; finish or"):
        open_shards(folder)


def test_a_tile_that_is_not_as_it_was_written_is_an_error(
    prepared: Path, tmp_path: Path, open_shards: Open
):
    folder = copy_of(prepared, tmp_path)
    shard = folder / "shard-00003.tar"
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    source = open_shards(folder)
    in_shard = np.flatnonzero(np.load(folder / "tiles.npy")["shard"] == 3)
    with pytest.raises(
        UserError, match=r"shard-00003\.tar of .*prepared is damaged at byte 512; co"
    ):
        source.read(int(in_shard[0]))
    assert source.read(int(in_shard[1])).shape == (32, 32, 3)


def test_the_fingerprint_is_of_the_content_wherever_it_lies(
    prepared: Path, server: Server, tmp_path: Path, open_shards: Open
):
    here = open_shards(prepared).fingerprint
    assert here == open_shards(copy_of(prepared, tmp_path)).fingerprint
    assert here == open_shards(server.url).fingerprint
    photographs = open_shards(prepared.parent / "photographs")
    assert photographs.fingerprint != here
    write_image(tmp_path / "photographs" / "a.png", np.zeros((32, 32, 3), np.uint8))
    before = open_shards(tmp_path / "photographs").fingerprint
    assert before == open_shards(tmp_path / "photographs").fingerprint
    write_image(tmp_path / "photographs" / "b.png", np.zeros((32, 32, 3), np.uint8))
    assert before != open_shards(tmp_path / "photographs").fingerprint


def cached_bytes(cache: Path) -> int:
    total = 0
    for path in cache.glob("*.tar"):
        with suppress(FileNotFoundError):  # another thread has just made room
            total += path.stat().st_size
    return total


def finish_reading_ahead() -> None:
    """Waits for what this process fetches in the background."""
    for thread in threading.enumerate():
        if thread.daemon and "_read_ahead" in thread.name:
            thread.join()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_cache_stays_within_its_bound_and_shards_are_fetched_once_a_pass(
    num_workers: int, prepared: Path, server: Server, tmp_path: Path, open_shards: Open
):
    shard_bytes = (prepared / "shard-00000.tar").stat().st_size
    bound_mib = 5.5 * shard_bytes / 2**20
    source = open_shards(server.url, stream_cache_mib=bound_mib)
    sizes: list[int] = []
    sampler = IterationBatches(
        first_iteration=0, last_iteration=30, batch_size=8, rank=0, world_size=1
    )
    for _ in DataLoader(crops_of(source), batch_sampler=sampler, num_workers=num_workers):
        sizes.append(cached_bytes(tmp_path / "cache"))
        finish_reading_ahead()  # late by several shards, it would fetch one that has made room
    assert 0 < max(sizes) <= bound_mib * 2**20
    assert server.count("manifest.json") == 1
    fetched = [server.count(f"shard-{number:05d}.tar") for number in range(10)]
    assert min(fetched) >= 1
    if num_workers == 0:  # one of several that falls behind needs what made room for the others
        assert sum(fetched) <= 2 * 10 + 2  # two passes; at their seam some are wanted again


def test_workers_fetch_a_shard_once_for_all(prepared: Path, server: Server, open_shards: Open):
    source = open_shards(server.url)  # with room for all
    batches_of(crops_of(source), num_workers=2, last=15)
    assert [server.count(f"shard-{number:05d}.tar") for number in range(10)] == [1] * 10


def test_what_lies_in_the_cache_is_not_fetched_again(
    prepared: Path, server: Server, open_shards: Open
):
    first = batches_of(crops_of(open_shards(server.url)), last=15)
    asked = len(server.asked)
    again = batches_of(crops_of(open_shards(server.url)), last=15)
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert [Path(path).name for path in server.asked[asked:]] == ["manifest.json", "tiles.npy"]


def test_a_cached_shard_waits_for_nobody_who_fetches_another(
    prepared: Path, server: Server, tmp_path: Path, open_shards: Open
):
    source = open_shards(server.url)
    expected = source.read(0)
    again = open_shards(server.url)
    with FileLock(tmp_path / "cache" / ".lock"), ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(again.read, 0).result(timeout=30), expected)


def test_a_shard_that_had_to_make_room_is_fetched_again(
    prepared: Path, server: Server, tmp_path: Path, open_shards: Open
):
    source = open_shards(server.url)
    expected = source.read(5)
    for path in (tmp_path / "cache").glob("*.tar"):
        path.unlink()
    np.testing.assert_array_equal(source.read(5), expected)


def test_the_next_shard_is_fetched_ahead(server: Server, prepared: Path, tmp_path: Path):
    storage = StreamedStorage(server.url, cache_dir=tmp_path / "cache", cache_mib=1)
    source = Shards(storage, place=server.url, minimum_size_px=1, shuffle_shards=1)
    order = source.order(np.random.default_rng(0))
    shard_of = np.load(prepared / "tiles.npy")["shard"]
    source.read(int(order[0]))
    finish_reading_ahead()
    first = shard_of[order[0]]
    following = next(shard for shard in shard_of[order] if shard != first)
    assert server.count(f"shard-{following:05d}.tar") == 1
    assert sum(server.count(f"shard-{number:05d}.tar") for number in range(10)) == 2


def test_half_fetched_shards_of_a_killed_process_are_removed(
    server: Server, tmp_path: Path, open_shards: Open
):
    (tmp_path / "cache").mkdir()
    leftover = tmp_path / "cache" / ".abc.123.tar"
    leftover.write_bytes(b"half")
    open_shards(server.url).read(0)
    assert not leftover.exists()


def test_a_cache_that_is_too_small_is_refused(server: Server, open_shards: Open):
    with pytest.raises(
        UserError,
        match=r"`stream_cache_mib` \(=0\) must hold 4 shards of http.* at once; try 1, or",
    ):
        open_shards(server.url, stream_cache_mib=0.1)


def test_a_shard_that_differs_from_the_manifest_is_tried_again_and_then_refused(
    prepared: Path, tmp_path: Path, open_shards: Open, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    monkeypatch.setattr(storage_module.time, "sleep", waits.append)
    folder = copy_of(prepared, tmp_path)
    for path in folder.glob("*.tar"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"tar cannot be fetched \(its content is not what the man"):
        open_shards(f"file://{folder}").read(0)
    assert waits == [1, 4, 16]
    assert list((tmp_path / "cache").glob("*.tar")) == []


def test_a_network_that_fails_for_a_moment_is_asked_again(
    prepared: Path, open_shards: Open, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    monkeypatch.setattr(storage_module.time, "sleep", waits.append)
    source = open_shards(f"file://{prepared}")
    get_file = fsspec.implementations.local.LocalFileSystem.get_file

    def fail_twice(*args: object, **kwargs: object) -> None:
        if len(waits) < 2:
            raise TimeoutError("timed out")
        get_file(*args, **kwargs)

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "get_file", fail_twice)
    assert source.read(0).shape == (32, 32, 3)
    assert waits == [1, 4]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}/photographs", "holds no finished output of `asrgan prepare`"),
        ("file:///nowhere/prepared", "file:///nowhere/prepared holds no finished output of"),
        ("nonsense://x", r"nonsense://x/manifest\.json cannot be fetched \(Protocol not known"),
    ],
)
def test_an_address_without_prepared_data_is_told(
    url: str, message: str, server: Server, open_shards: Open
):
    with pytest.raises(UserError, match=message):
        open_shards(url.format(port=server.server_port))


def test_a_missing_package_and_missing_credentials_are_told(
    open_shards: Open, monkeypatch: pytest.MonkeyPatch
):
    def lacking(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    def forbidden(url: str) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(
        UserError, match=r"fetched \(Install s3fs to access S3\); check the address,"
    ):
        open_shards("s3://bucket/prepared")
    monkeypatch.setattr(fsspec.core, "url_to_fs", forbidden)
    with pytest.raises(UserError, match=r"fetched \(Forbidden\); .* and the credentials\.$"):
        open_shards("s3://bucket/prepared")


def test_a_file_that_is_no_manifest_of_ours_is_told(
    prepared: Path, tmp_path: Path, open_shards: Open
):
    folder = copy_of(prepared, tmp_path)
    (folder / "manifest.json").write_text('{"format": "asrgan shards 99"}')
    with pytest.raises(UserError, match=r"manifest\.json was not written by this `asrgan prepare`"):
        open_shards(f"file://{folder}")


def test_shuffling_no_shards_is_refused(prepared: Path):
    with pytest.raises(UserError, match=r"`shuffle_shards` \(=0\) must be at least 1"):
        Shards(FolderStorage(prepared), place="x", minimum_size_px=1, shuffle_shards=0)
