"""How far pictures are from HR in the eyes of a network that no loss has used.

    python squeezenet.py EVALUATION FILE BENCHMARK ...

EVALUATION is a folder of `asrgan evaluate ... save_images=true`, and gets squeezenet.csv. FILE is
SqueezeNet v1.1 as Keras has it (needs h5py). Each BENCHMARK is a folder with HR, as it was given to
evaluate.

The distance is `feature_distance` of evaluate with this network, on the maps that LPIPS takes of
it.
"""

import argparse
import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from asrgan.data import Benchmark
from asrgan.imaging import read_image, to_tensor
from asrgan.metrics import FeatureDistance
from asrgan.studies import Row, estimate_mean, write_rows

TABLE = "squeezenet.csv"
COLUMNS = ("benchmark", "model", "images", "distance", "low", "high")

_SCALE = 4
# torchvision's numbers of the layers, and the stride of their maps
_STRIDES = {"1": 2, "4": 4, "7": 8, "9": 16, "10": 16, "11": 16, "12": 16}
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # B, G, R


class SqueezeNet(nn.Module):
    """Feature maps of SqueezeNet v1.1, by torchvision's numbers of the layers.

    Args:
        file: the weights in HDF5, as Keras writes them.

    Source: Iandola et al. 2016; https://github.com/forresti/SqueezeNet, v1.1.
    """

    mean: Tensor

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.layers = squeezenet1_1(weights=None).features
        self.register_buffer("mean", torch.tensor(_CAFFE_MEAN).view(3, 1, 1))
        convolutions = [m for m in self.layers.modules() if isinstance(m, nn.Conv2d)]
        for convolution, (kernel, bias) in zip(convolutions, _keras_weights(file), strict=True):
            convolution.load_state_dict({"weight": kernel.permute(3, 2, 0, 1), "bias": bias})

    def forward(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Maps of some layers; ``image`` is (N, 3, H, W) RGB in [0, 1]."""
        features, maps = 255 * image.flip(1) - self.mean, dict[str, Tensor]()
        for name, layer in self.layers.named_children():
            features = layer(features)
            if name in layers:
                maps[name] = features
        return maps


def main() -> None:
    """Writes a row for each benchmark and model."""
    parser = argparse.ArgumentParser(description="Compare the pictures of an evaluation with HR.")
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("benchmarks", type=Path, nargs="+")
    arguments = parser.parse_args()
    network, table = SqueezeNet(arguments.file), arguments.evaluation / TABLE
    rows = [
        row
        for folder in arguments.benchmarks
        for row in compare(arguments.evaluation / "images" / folder.name, folder, network)
    ]
    write_rows(table, rows, columns=COLUMNS)
    print(f"Distances  {table}")


def compare(pictures: Path, folder: Path, network: SqueezeNet) -> Iterator[Row]:
    """Means over a benchmark, with 95% intervals.

    Args:
        pictures: a folder for each model.
        folder: the benchmark's.
        network: the judge.
    """
    distances = {path.name: list[float]() for path in sorted(pictures.iterdir())}
    distance = FeatureDistance(network=network, strides=_STRIDES)
    for name, _, hr_image in Benchmark(folder, scale=_SCALE):
        for model, values in distances.items():
            sr_image = to_tensor(read_image(pictures / model / f"{name}.png"))
            values.append(distance(sr_image[None], hr_image[None]).item())
    for model, values in distances.items():
        estimate = estimate_mean(values, confidence=0.95, seed=1)
        assert estimate is not None
        numbers = (estimate.count, estimate.mean, estimate.low, estimate.high)
        yield dict(zip(COLUMNS, (folder.name, model, *numbers), strict=True))


def _keras_weights(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernel (height, width, in, out) and bias of each convolution, from the first to the last."""
    h5py: Any = importlib.import_module("h5py")
    with h5py.File(path) as file:
        for layer in file.attrs["layer_names"]:
            arrays = [file[layer][name][()] for name in file[layer].attrs["weight_names"]]
            if arrays:
                kernel, bias = map(torch.from_numpy, arrays)
                yield kernel, bias


if __name__ == "__main__":
    main()
