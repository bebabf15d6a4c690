"""Turn a folder of photographs into training shards that are read fast, or streamed.

  asrgan prepare input=DIR output=DIR [key=value ...]

A photograph of 2000 px takes 40 ms to decode, a training crop needs 1% of it. Here photographs are
split into overlapping tiles, which lie in a few large files and are decoded in 1 ms. `asrgan train
data.train=` takes the output, or its copy in an object store.

Examples:
  All photographs below a folder:
    asrgan prepare input=photos output=prepared
    asrgan train experiment=srresnet_x4 data.train=prepared ...
    asrgan train experiment=srresnet_x4 data.train=s3://bucket/prepared ...   (needs s3fs)
  Leave out what a benchmark holds, in whatever size, coding or orientation:
    asrgan prepare input=photos output=prepared 'held_out=[data/Set14,data/BSD100]'
  Take off the blocks of strong JPEG, keep a tenth of the sky, store without loss:
    asrgan prepare input=photos output=prepared tiling.downscale=2 tiling.flat_below=2
        tiling.tile_format=webp

The same command goes on where a run was killed. What comes out depends on the photographs and the
settings alone.

Writes to output:
  shard-00000.tar ...   the tiles as picture files (WebDataset's layout)
  tiles.npy             where each tile lies
  photographs.csv       what was used: number in the tiles' names, path, size, tiles
  rejected.csv          every other file, with the reason
  manifest.json         counts, settings, checksums; written last
"""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from asrgan.configuration import as_texts
from asrgan.console import open_bar
from asrgan.data import Preparation

log = logging.getLogger(__name__)


def run(config: DictConfig, output_dir: Path) -> None:
    """Prepares as the configuration says, and tells what came out."""
    preparation = Preparation(
        str(config.input),
        output_dir,
        tiling=instantiate(config.tiling),
        shard_mib=config.shard_mib,
        held_out=as_texts(config.held_out),
        held_out_bits=config.held_out_bits,
        num_workers=config.num_workers,
    )
    if preparation.manifest is not None:
        log.info("%s is finished already; nothing to do.", output_dir)
    else:
        with preparation.exclusive():
            _run(preparation)
    manifest = preparation.manifest
    assert manifest is not None
    photographs, tiles = manifest["photographs"], manifest["tiles"]
    flat = f", {tiles['flat_left_out']} flat ones left out" if tiles["flat_left_out"] else ""
    size = f"{tiles['bytes'] / 1e6:.1f} MB in {len(manifest['shards'])} shards"
    log.info("Photographs %d used, %d files rejected", *photographs.values())
    log.info("Tiles       %d%s; %s", tiles["count"], flat, size)
    log.info("Rejected    %s", output_dir / "rejected.csv")
    log.info("Manifest    %s", output_dir / "manifest.json")


def _run(preparation: Preparation) -> None:
    with open_bar(
        total=preparation.num_photographs,
        initial=preparation.num_done,
        desc="preparing",
        unit="photograph",
    ) as bar:
        preparation.run(progress=bar.update)
