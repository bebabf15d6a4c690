import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from torch.nn import functional as F

from asrgan.errors import DivergedError, UserError
from asrgan.imaging import bicubic_upscale, read_image, to_tensor
from asrgan.inference import MemoryBudgetError, Upscaler
from asrgan.models import BicubicUpscaler, SRGANGenerator, load_generator, save_generator
from small_networks import small_generator


def build(**changes: Any) -> SRGANGenerator:
    torch.manual_seed(0)
    own = {"num_blocks": 1, "attention": [{"after": "trunk"}]}
    generator = small_generator(**(own | changes)).eval()
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    return generator


def on_cpu(generator: SRGANGenerator | BicubicUpscaler, **changes: Any) -> Upscaler:
    options: dict[str, Any] = {"memory_bytes": None, "device": "cpu", "precision": "float32"}
    return Upscaler(generator, **(options | changes))


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    """Its output is around grey, so that little is clamped."""
    return on_cpu(build(output="tanh"))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    def write(recipe: dict[str, object]) -> Path:
        path = tmp_path / "generator.safetensors"
        save_generator(path, build(), recipe=recipe)
        return path

    return write


def colours(height: int, width: int, channels: int, dtype: Any) -> np.ndarray:
    random = np.random.default_rng(0)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_the_picture_is_the_generators(upscaler: Upscaler):
    lr_image = torch.rand(3, 13, 9)
    with torch.no_grad():
        expected = build(output="tanh")(lr_image[None])[0]
    torch.testing.assert_close(upscaler.upscale(lr_image), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        torch.cat(list(upscaler.bands(lr_image)), dim=1), expected, rtol=0, atol=1e-6
    )


def test_the_generator_stays_as_it_is():
    generator = build(spectral_norm=True).train()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    on_cpu(generator, precision="bfloat16").upscale(torch.rand(3, 5, 5))
    after = generator.state_dict()
    assert generator.training
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_published_generator_keeps_its_picture(shared_folder: Path):
    path = shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    set5 = shared_folder / "data" / "benchmarks" / "Set5"
    lr_image = to_tensor(read_image(set5 / "LRx4" / "img_001.png"))
    with torch.no_grad():
        expected = load_generator(path)(lr_image[None])[0]
    sr_image = Upscaler.from_file(path, device="cpu", precision="float32").upscale(lr_image)
    torch.testing.assert_close(sr_image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_colour_array_is_the_rounded_picture(upscaler: Upscaler, dtype: Any):
    array = colours(6, 5, 3, dtype)
    largest = np.iinfo(dtype).max
    lr_image = torch.from_numpy(array.astype(np.float32) / largest).permute(2, 0, 1)
    expected = (upscaler.upscale(lr_image).clamp(0, 1) * largest).round().permute(1, 2, 0)
    sr_array = upscaler(array)
    assert sr_array.dtype == dtype
    assert np.array_equal(sr_array, expected.numpy().astype(dtype))


def test_grey_stays_grey(upscaler: Upscaler):
    grey = colours(6, 5, 1, np.uint8)
    channels = upscaler(np.stack([grey] * 3, axis=2))
    sr_grey = upscaler(grey)
    assert sr_grey.shape == (24, 20)
    # Here each channel is rounded and clamped before they are mixed.
    assert np.abs(sr_grey - channels @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_alpha_leaves_colours_alone_and_is_enlarged_smoothly(upscaler: Upscaler):
    array = colours(6, 5, 4, np.uint8)
    assert np.array_equal(upscaler(array)[..., :3], upscaler(array[..., :3].copy()))
    array[..., 3] = 77
    assert (upscaler(array)[..., 3] == 77).all()
    array[:3, :, 3] = 200
    column = upscaler(array)[:, 0, 3].astype(int)
    assert column[0] == 200
    assert column[-1] == 77
    assert 77 < column[11] < 200


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_a_pil_image_gives_a_pil_image(upscaler: Upscaler, mode: str):
    sr_image = upscaler(Image.new(mode, (5, 6)))
    assert isinstance(sr_image, Image.Image)
    assert sr_image.size == (20, 24)
    assert sr_image.mode == (mode if mode in ("L", "LA", "RGB", "RGBA", "I;16") else "RGB")


def test_tensors_stay_in_their_type_and_number(upscaler: Upscaler):
    batch = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    sr_batch = upscaler(batch)
    assert sr_batch.shape == (2, 3, 24, 20)
    assert sr_batch.dtype == torch.float64
    assert torch.equal(sr_batch[1], upscaler(batch[1]))
    assert sr_batch.min() >= 0
    assert sr_batch.max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        torch.zeros(4, 4),
        torch.zeros(1, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        # White is 65535 there, or any number.
        Image.new("I", (4, 4), 40_000),
        Image.new("F", (4, 4), 0.5),
    ],
    ids=[
        "float array",
        "two channels",
        "batch of arrays",
        "flat tensor",
        "grey tensor",
        "uint8 tensor",
        "PIL I",
        "PIL F",
    ],
)
def test_other_kinds_of_pictures_are_refused(upscaler: Upscaler, image: Any):
    with pytest.raises(UserError, match=r"`image` is a .*; give an array uint8 or uint16"):
        upscaler(image)


def test_nothing_cannot_be_enlarged(upscaler: Upscaler):
    with pytest.raises(UserError, match="a picture of 0x5 px has nothing to enlarge"):
        upscaler(np.zeros((5, 0, 3), np.uint8))


def test_bicubic_has_the_same_interface():
    upscaler = on_cpu(BicubicUpscaler(scale=4))
    lr_image = torch.rand(3, 9, 7)
    assert torch.equal(upscaler.upscale(lr_image), bicubic_upscale(lr_image[None], scale=4)[0])
    assert upscaler.forecast(9, 7).attention_map_bytes == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "half"}, "`precision` .=half. must be auto, bfloat16 or float32"),
        ({"attention": "local"}, "`attention` .=local. must be whole or window"),
        ({"attention": "window"}, "`window_px` .=None. must be the side"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        on_cpu(build(), **changes)


def test_windows_have_the_size_of_the_training_crops(save: Callable[..., Path]):
    recipe: dict[str, object] = {"config": {"data": {"crop_size_px": 32}, "scale": 4}}
    lr_image = torch.rand(3, 20, 20)
    options: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    windowed = Upscaler.from_file(save(recipe), attention="window", **options)
    expected = on_cpu(build(), attention="window", window_px=8)
    assert torch.equal(windowed.upscale(lr_image), expected.upscale(lr_image))


def test_a_window_knows_nothing_of_what_is_beyond_its_convolutions():
    near, far = torch.rand(2, 3, 48, 48)
    far[:, :36] = near[:, :36]
    whole = on_cpu(build())
    windows = on_cpu(build(), attention="window", window_px=8)
    top = slice(0, 4 * 8)
    assert torch.equal(windows.upscale(near)[:, top], windows.upscale(far)[:, top])
    assert not torch.equal(whole.upscale(near)[:, top], whole.upscale(far)[:, top])


def test_windows_of_unknown_size_are_refused(save: Callable[..., Path]):
    with pytest.raises(UserError, match="needs to know the crop"):
        Upscaler.from_file(save({}), attention="window")


def test_a_budget_that_can_never_hold_the_picture_names_one_that_can():
    upscaler = on_cpu(build(), memory_bytes=2**20)
    with pytest.raises(MemoryBudgetError, match=r"can never hold a picture of 30x20 px") as raised:
        upscaler.upscale(torch.rand(3, 20, 30))
    upscaler.memory_bytes = raised.value.needed_bytes
    assert upscaler.upscale(torch.rand(3, 20, 30)).shape == (3, 80, 120)


BUDGET = """
import json, sys, torch
torch.set_num_threads(1)
from asrgan.inference import Upscaler
from asrgan.models import SRGANGenerator
generator = SRGANGenerator(
    scale=4, num_features=32, num_blocks=1, norm="none", trunk_end="norm", output="linear",
    spectral_norm=False, spectral_norm_output=False, attention=json.loads(sys.argv[1]),
    pool_size=8, attention_resize="nearest",
)
upscaler = Upscaler(generator, memory_bytes=None, device="cpu", precision="float32")
upscaler.memory_bytes = upscaler.held_bytes() + int(sys.argv[2])
predicted = upscaler.forecast(200, 1500)
for band in upscaler.bands(torch.rand(3, 200, 1500)):
    pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps([upscaler.memory_bytes, predicted.peak_bytes, peak, predicted.plan.is_spilled]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize(
    ("attention", "added_mib", "is_spilled"),
    [([], 90, False), ([{"after": "trunk"}], 90, True), ([{"after": "trunk"}], 180, False)],
    ids=["without attention", "features in a file", "features in memory"],
)
def test_a_process_keeps_within_its_budget_and_its_forecast(
    attention: list[dict[str, str]], added_mib: int, is_spilled: bool
):
    """One map of this picture at HR size takes 586 MiB."""
    command = [sys.executable, "-c", BUDGET, json.dumps(attention), str(added_mib * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    budget, predicted, peak, was_spilled = json.loads(done.stdout)
    assert was_spilled == is_spilled
    assert peak <= budget
    assert predicted <= budget
    assert peak == pytest.approx(predicted, rel=0.1)


def test_a_pil_image_is_turned_and_keeps_its_profile(upscaler: Upscaler):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.fromarray(colours(8, 12, 3, np.uint8)).save(file, "PNG", exif=exif, icc_profile=profile)
    enlarged = upscaler(Image.open(file))
    assert enlarged.size == (32, 48)
    assert enlarged.info["icc_profile"] == profile
    assert ExifTags.Base.Orientation not in enlarged.getexif()
    inks = Image.new("CMYK", (6, 5))
    inks.info["icc_profile"] = b"of inks"
    assert "icc_profile" not in upscaler(inks).info


def test_values_that_are_no_numbers_are_refused():
    generator = build()
    with torch.no_grad():
        next(generator.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError, match="values that are no numbers"):
        on_cpu(generator).upscale(torch.rand(3, 8, 8))


def test_the_budget_that_is_named_holds_what_is_written_later_as_well():
    upscaler = on_cpu(build(), memory_bytes=2**20)
    needs: Any = {"caller_bytes": 10**6, "later_bytes": 10**9}
    with pytest.raises(MemoryBudgetError) as raised:
        upscaler.check(40, 30, **needs)
    upscaler.memory_bytes = raised.value.needed_bytes
    upscaler.check(40, 30, **needs)
    assert upscaler.forecast(40, 30, **needs).peak_bytes >= upscaler.held_bytes() + 10**9


def test_alpha_of_many_rows_is_bicubic(upscaler: Upscaler):
    """It goes in bands, and is what it would be whole."""
    levels = colours(150, 9, 4, np.uint8)
    alpha = to_tensor(levels[..., 3:])[None]
    whole = F.interpolate(alpha, scale_factor=4, mode="bicubic", antialias=True)
    whole = whole.clamp(0, 1).mul(255).round()[0, 0]
    np.testing.assert_allclose(upscaler(levels)[..., 3], whole.numpy(), rtol=0, atol=1)


def test_an_exported_file_knows_its_crops(save: Callable[..., Path]):
    recipe = {"weights": {"recipe": {"config": {"scale": 4, "data": {"crop_size_px": 24}}}}}
    Upscaler.from_file(save(recipe), attention="window", device="cpu")
