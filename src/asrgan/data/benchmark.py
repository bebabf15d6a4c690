"""Benchmarks: pairs of LR and HR pictures, or originals without HR, in a fixed order."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from asrgan.errors import UnreadableImageError, UserError
from asrgan.imaging import bicubic_downscale, find_images, image_size, read_image, to_tensor

_MAX_NAMES_SHOWN = 3


class BenchmarkImage(NamedTuple):
    """One pair of a benchmark.

    Attributes:
        name: path below the folder; without suffix, unless two differ in nothing else.
        lr_image: (3, h, w), or (1, 3, h, w) once batched, float32 in [0, 1].
        hr_image: the same with h and w times the scale.
    """

    name: str
    lr_image: Tensor
    hr_image: Tensor


class OriginalImage(NamedTuple):
    """A picture that has no ground truth.

    Attributes:
        name: as in `BenchmarkImage`.
        lr_image: (3, h, w) float32 in [0, 1].
    """

    name: str
    lr_image: Tensor


class Benchmark(Dataset[BenchmarkImage]):
    """A folder of test pictures with ground truth.

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
        maximum_px: pixels of the largest HR picture that can be scored; None: any.

    Attributes:
        name: the folder's.
        names: of the pictures, sorted.
        left_out: name -> why the picture cannot be scored, for those that are not in ``names``.
        has_lr: whether the folder holds LR, too.

    Raises:
        UserError: no pictures, none that can be scored, HR and LR whose names or sizes do not fit
            together, or a crop that the scale does not divide.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        scale: int,
        crop_size_px: int | None = None,
        limit: int | None = None,
        minimum_size_px: int = 1,
        maximum_px: int | None = None,
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
        self._maximum_px = maximum_px
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
        self.has_lr = self._lr_paths is not None
        self.names, self.left_out = _sort_out(list(self._hr_paths)[:limit], self._fault_of)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> BenchmarkImage:
        """The pair at a place in the sorted row of names.

        Raises:
            IndexError: beyond the last.
            UnreadableImageError: a damaged picture.
        """
        name = self.names[index]
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

    def _fault_of(self, name: str) -> str | None:
        """Why a picture cannot be scored, from the heads of its files."""
        hr_path = self._hr_paths[name]
        try:
            hr_height, hr_width = image_size(hr_path)
            lr_path = None if self._lr_paths is None else self._lr_paths[name]
            lr_size = None if lr_path is None else image_size(lr_path)
        except UnreadableImageError as error:
            return str(error)
        scored_px = min(hr_height, hr_width, self._crop_size_px or hr_height)
        scored_px = scored_px // self._scale * self._scale
        if scored_px < self._minimum_size_px:
            return (
                f"{hr_path} ({hr_width}x{hr_height}) leaves {scored_px} px to score,"
                f" at least {self._minimum_size_px} are needed; remove it, or enlarge the crop."
            )
        if lr_size is not None and (hr_height, hr_width) != (
            lr_size[0] * self._scale,
            lr_size[1] * self._scale,
        ):
            raise UserError(
                f"{hr_path} ({hr_width}x{hr_height}) must be {self._scale} times as large as"
                f" {lr_path} ({lr_size[1]}x{lr_size[0]});"
                f" crop HR to {lr_size[1] * self._scale}x{lr_size[0] * self._scale}."
            )
        return _too_large(hr_path, hr_height, hr_width, self._maximum_px)


class Originals(Dataset[OriginalImage]):
    """A folder of pictures that are enlarged and have no ground truth.

    Pictures of any size and kind: grey and 16 bits become RGB of 8 bits, alpha is dropped.

    Args:
        folder: its name is the benchmark's name. The pictures are in ``LRx{scale}/`` if it has
            such a folder, else anywhere below it.
        scale: integer factor by which they are enlarged.
        maximum_px: pixels of the largest enlarged picture; None: any.

    Attributes:
        name: the folder's.
        names: of the pictures, sorted.
        left_out: name -> why the picture cannot be enlarged, for those that are not in ``names``.

    Raises:
        UserError: no pictures, or none that can be enlarged.
    """

    def __init__(self, folder: Path | str, *, scale: int, maximum_px: int | None = None) -> None:
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would rename a link
        self.name = folder.name
        self._scale = scale
        self._maximum_px = maximum_px
        lr_folder = folder / f"LRx{scale}"
        self._paths = _images_by_name(lr_folder if lr_folder.is_dir() else folder)
        self.names, self.left_out = _sort_out(list(self._paths), self._fault_of)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> OriginalImage:
        """The picture at a place in ``names``.

        Raises:
            IndexError: beyond the last.
            UnreadableImageError: a damaged picture.
        """
        name = self.names[index]
        return OriginalImage(name, to_tensor(read_image(self._paths[name])))

    def _fault_of(self, name: str) -> str | None:
        try:
            height, width = (side * self._scale for side in image_size(self._paths[name]))
        except UnreadableImageError as error:
            return str(error)
        return _too_large(self._paths[name], height, width, self._maximum_px)


def split_benchmark(text: str) -> tuple[str, str]:
    """What ``DIR``, ``hr:DIR`` and ``lr:DIR`` say: ``hr``, ``lr`` or nothing, and the folder."""
    kind, separator, folder = text.partition(":")
    if not separator or kind not in ("hr", "lr") or Path(text).is_dir():
        return "", text
    return kind, folder


def open_benchmark(
    text: str, *, scale: int, minimum_size_px: int = 1, maximum_px: int | None = None
) -> Benchmark | Originals:
    """Opens ``DIR``, ``hr:DIR`` (pictures with ground truth) or ``lr:DIR`` (without).

    A folder that is not told to be either holds originals if it has ``LRx{scale}/`` and no ``HR/``.

    Args:
        text: see above.
        scale: integer factor between LR and HR.
        minimum_size_px: see `Benchmark`.
        maximum_px: see `Benchmark` and `Originals`.

    Raises:
        UserError: see `Benchmark` and `Originals`.
    """
    kind, folder = split_benchmark(text)
    has_hr, has_lr = ((Path(folder) / name).is_dir() for name in ("HR", f"LRx{scale}"))
    if kind == "lr" or (not kind and has_lr and not has_hr):
        return Originals(folder, scale=scale, maximum_px=maximum_px)
    return Benchmark(folder, scale=scale, minimum_size_px=minimum_size_px, maximum_px=maximum_px)


def _sort_out(
    names: Sequence[str], fault_of: Callable[[str], str | None]
) -> tuple[list[str], dict[str, str]]:
    left_out = {name: fault for name in names if (fault := fault_of(name)) is not None}
    usable = [name for name in names if name not in left_out]
    if not usable:
        others = f" Nor can the other {len(names) - 1} be used." if len(names) > 1 else ""
        raise UserError(next(iter(left_out.values())) + others)
    return usable, left_out


def _too_large(path: Path, height: int, width: int, maximum_px: int | None) -> str | None:
    if maximum_px is None or height * width <= maximum_px:
        return None
    return (
        f"{path} needs a result of {width}x{height} px, {height * width / 1e6:.3g} megapixels, and"
        f" at most {maximum_px / 1e6:.3g} are allowed."
    )


def _images_by_name(folder: Path) -> dict[str, Path]:
    """The images below a folder by their path, with the suffix where two differ in nothing else."""
    paths = find_images(folder)
    if not paths:
        raise UserError(f"no image files in {folder} or below it; give a folder of pictures.")
    named: dict[str, list[Path]] = {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        # Linux allows file names that are no text.
        named.setdefault(name.encode("utf-8", "backslashreplace").decode(), []).append(path)
    return {
        name + path.suffix * (len(same) > 1): path for name, same in named.items() for path in same
    }


def _check_names(hr_folder: Path, hr: set[str], lr_folder: Path, lr: set[str]) -> None:
    for folder, missing in ((lr_folder, sorted(hr - lr)), (hr_folder, sorted(lr - hr))):
        if missing:
            shown = ", ".join(missing[:_MAX_NAMES_SHOWN])
            more = len(missing) - _MAX_NAMES_SHOWN
            raise UserError(
                f"HR and LR pictures must have equal names; {folder} lacks {shown}"
                f"{f' and {more} more' if more > 0 else ''}."
            )
