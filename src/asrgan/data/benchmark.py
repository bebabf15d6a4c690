"""Benchmarks: pairs of LR and HR pictures in a fixed order."""

import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from asrgan.errors import UserError
from asrgan.imaging import bicubic_downscale, find_images, image_size, read_image, to_tensor

_MAX_NAMES_SHOWN = 3


class BenchmarkImage(NamedTuple):
    """One pair of a benchmark.

    Attributes:
        name: path below the folder, without suffix.
        lr_image: (3, h, w), or (1, 3, h, w) once batched, float32 in [0, 1].
        hr_image: the same with h and w times the scale.
    """

    name: str
    lr_image: Tensor
    hr_image: Tensor


class Benchmark(Dataset[BenchmarkImage]):
    """A folder of test pictures.

    Either the folder holds ``HR/`` and ``LRx{scale}/`` with pictures of equal names, or LR is made:
    HR (in ``HR/`` or the folder itself) loses up to scale-1 rows at the bottom and columns at the
    right, until the scale divides its size, and is reduced by `bicubic_downscale`.

    Args:
        folder: its name is the benchmark's name.
        scale: integer factor between LR and HR.
        crop_size_px: only the centre of each picture, that many HR pixels high and wide (or as
            large as the picture); None: the whole picture.
        limit: only the first pictures; None: all.
        minimum_size_px: shortest HR side that can be scored.

    Raises:
        UserError: no pictures, a picture that cannot be read, HR and LR whose names or sizes do
            not fit together, or a crop that the scale does not divide.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        scale: int,
        crop_size_px: int | None = None,
        limit: int | None = None,
        minimum_size_px: int = 1,
    ) -> None:
        if crop_size_px is not None and (crop_size_px <= 0 or crop_size_px % scale):
            raise UserError(
                f"the benchmark's `crop_size_px` (={crop_size_px}) must be a positive multiple of "
                f"`scale` (={scale}); try {max(crop_size_px // scale, 1) * scale}."
            )
        if limit is not None and limit < 1:
            raise UserError(f"the benchmark's `limit` (={limit}) must be at least 1.")
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would rename a link
        self.name = folder.name
        self._scale = scale
        self._crop_size_px = crop_size_px
        self._minimum_size_px = max(minimum_size_px, scale)
        hr_folder, lr_folder = folder / "HR", folder / f"LRx{scale}"
        if not hr_folder.is_dir():
            if lr_folder.is_dir():
                raise UserError(f"{lr_folder} has no partner; put the HR pictures in {hr_folder}.")
            hr_folder = folder
        self._hr_paths = _images_by_name(hr_folder)
        self._lr_paths: dict[str, Path] | None = None
        if lr_folder.is_dir():
            self._lr_paths = _images_by_name(lr_folder)
            _check_names(hr_folder, set(self._hr_paths), lr_folder, set(self._lr_paths))
        self._names = list(self._hr_paths)[:limit]
        for name in self._names:
            self._check_size(name)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> BenchmarkImage:
        """The pair at a place in the sorted row of names.

        Raises:
            IndexError: beyond the last.
            UnreadableImageError: a damaged picture.
        """
        name = self._names[index]
        hr_image = to_tensor(read_image(self._hr_paths[name]))
        if self._lr_paths is not None:
            lr_image = to_tensor(read_image(self._lr_paths[name]))
        else:
            height, width = (side // self._scale * self._scale for side in hr_image.shape[1:])
            hr_image = hr_image[:, :height, :width]
            lr_image = bicubic_downscale(hr_image[None], scale=self._scale)[0]
        if self._crop_size_px is not None:
            lr_image, hr_image = self._centre(lr_image, hr_image, self._crop_size_px)
        return BenchmarkImage(name, lr_image, hr_image)

    def _centre(
        self, lr_image: Tensor, hr_image: Tensor, crop_size_px: int
    ) -> tuple[Tensor, Tensor]:
        for dim in (1, 2):
            length = min(crop_size_px // self._scale, lr_image.shape[dim])
            start = (lr_image.shape[dim] - length) // 2
            lr_image = lr_image.narrow(dim, start, length)
            hr_image = hr_image.narrow(dim, start * self._scale, length * self._scale)
        return lr_image, hr_image

    def _check_size(self, name: str) -> None:
        hr_height, hr_width = image_size(self._hr_paths[name])
        scored_px = min(hr_height, hr_width, self._crop_size_px or hr_height)
        if scored_px < self._minimum_size_px:
            raise UserError(
                f"{self._hr_paths[name]} ({hr_width}x{hr_height}) leaves {scored_px} px to score,"
                f" at least {self._minimum_size_px} are needed; remove it, or enlarge the crop."
            )
        if self._lr_paths is None:
            return
        lr_height, lr_width = image_size(self._lr_paths[name])
        if (hr_height, hr_width) != (lr_height * self._scale, lr_width * self._scale):
            raise UserError(
                f"{self._hr_paths[name]} ({hr_width}x{hr_height}) must be {self._scale} times as "
                f"large as {self._lr_paths[name]} ({lr_width}x{lr_height}); "
                f"crop HR to {lr_width * self._scale}x{lr_height * self._scale}."
            )


def _images_by_name(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in images:
            raise UserError(f"{images[name]} and {path} have the same name; rename one.")
        images[name] = path
    if not images:
        raise UserError(f"no image files in {folder} or below it; give a folder of HR pictures.")
    return images


def _check_names(hr_folder: Path, hr: set[str], lr_folder: Path, lr: set[str]) -> None:
    for folder, missing in ((lr_folder, sorted(hr - lr)), (hr_folder, sorted(lr - hr))):
        if missing:
            shown = ", ".join(missing[:_MAX_NAMES_SHOWN])
            more = len(missing) - _MAX_NAMES_SHOWN
            raise UserError(
                f"HR and LR pictures must have equal names; {folder} lacks {shown}"
                f"{f' and {more} more' if more > 0 else ''}."
            )
