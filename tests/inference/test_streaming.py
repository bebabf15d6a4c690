import dataclasses
import resource
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small_networks
from asrgan.errors import UserError
from asrgan.imaging import bicubic_upscale
from asrgan.inference.network import describe
from asrgan.inference.plan import Plan, Precision, plans
from asrgan.inference.streaming import BicubicStream, GeneratorStream
from asrgan.models import SRGANGenerator, fold_norms

CPU = torch.device("cpu")
FLOAT32 = Precision(*[torch.float32] * 3)
BFLOAT16 = Precision(torch.bfloat16, image=torch.float32, tokens=torch.float32)
SMALL = small_networks.SMALL | {"pool_size": 3}
PLACES = ("head", "block1", "block2", "trunk", "upsample1", "upsample2")
SIZES = ((1, 1), (9, 1), (2, 30), (21, 11))


def build(**changes: Any) -> SRGANGenerator:
    """A small generator whose norms and attention matter."""
    torch.manual_seed(0)
    generator = SRGANGenerator(**(SMALL | changes)).eval()
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return generator


def open_stream(
    generator: SRGANGenerator, precision: Precision = FLOAT32, window_px: int | None = None
) -> GeneratorStream:
    return GeneratorStream(
        fold_norms(generator), precision=precision, device=CPU, window_px=window_px
    )


def plan_for(
    stream: GeneratorStream | BicubicStream,
    lr_image: Tensor,
    *,
    rows: int,
    is_spilled: bool = False,
) -> Plan:
    """A plan that takes so many rows at a time."""
    height, width = lr_image.shape[-2:]
    plan = next(
        plans(stream.network, height=height, width=width, precision=stream.precision, device=CPU)
    )
    segments = tuple(
        tuple(dataclasses.replace(part, rows=rows) for part in parts) for parts in plan.segments
    )
    return dataclasses.replace(plan, segments=segments, is_spilled=is_spilled)


def upscale(stream: GeneratorStream | BicubicStream, lr_image: Tensor, **how: Any) -> Tensor:
    return torch.cat(list(stream.run(lr_image, plan_for(stream, lr_image, **how))), dim=1)


def assert_exact(generator: SRGANGenerator) -> None:
    """Whatever the picture's size and the rows at a time, as the whole network gives it."""
    stream = open_stream(generator)
    for size in SIZES:
        lr_image = torch.rand(3, *size)
        with torch.no_grad():
            expected = generator(lr_image[None])[0]
        for rows in (2, 7, 100):
            sr_image = upscale(stream, lr_image, rows=rows)
            torch.testing.assert_close(sr_image, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(
    "changes",
    [{}, {"trunk_end": "prelu", "output": "tanh"}, {"norm": "none", "num_blocks": 1}],
    ids=["srresnet", "published", "one block"],
)
def test_rows_give_what_the_whole_picture_gives(scale: int, changes: dict[str, Any]):
    assert_exact(build(scale=scale, **changes))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("resize", ["transposed", "bilinear", "nearest"])
def test_attention_at_any_place_sees_the_whole_picture(place: str, resize: str):
    for pool_size in (1, 2, 5):
        attention = [{"after": place, "pool_size": pool_size, "resize": resize}]
        assert_exact(build(attention=attention))


@pytest.mark.parametrize("scale", [2, 8])
def test_attention_at_several_places_at_other_scales(scale: int):
    attention = [{"after": "head"}, {"after": "block2", "pool_size": 8}, {"after": "upsample1"}]
    assert_exact(build(scale=scale, attention=attention, attention_resize="bilinear"))


@pytest.mark.parametrize("places", [("block1",), ("head", "block2", "trunk"), PLACES])
def test_features_that_wait_in_a_file_are_the_same(places: tuple[str, ...]):
    generator = build(attention=[{"after": place} for place in places])
    stream, lr_image = open_stream(generator), torch.rand(3, 13, 11)
    spilled = upscale(stream, lr_image, rows=3, is_spilled=True)
    assert torch.equal(spilled, upscale(stream, lr_image, rows=3))


def test_a_bilinear_resize_far_down_a_tall_picture_is_exact():
    """Weights between rows come from the number of a row in the whole map."""
    attention = [{"after": "head", "pool_size": 7, "resize": "bilinear"}]
    generator = build(scale=2, num_blocks=1, attention=attention)
    lr_image = torch.rand(3, 3001, 2)
    with torch.no_grad():
        expected = generator(lr_image[None])[0]
    sr_image = upscale(open_stream(generator), lr_image, rows=50)
    torch.testing.assert_close(sr_image, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("places", [(), ("trunk",)])
def test_bfloat16_in_rows_is_bfloat16_in_one_piece(places: tuple[str, ...]):
    generator = build(attention=[{"after": place} for place in places])
    stream, lr_image = open_stream(generator, BFLOAT16), torch.rand(3, 40, 30)
    difference = upscale(stream, lr_image, rows=3) - upscale(stream, lr_image, rows=100)
    assert difference.abs().max() < 1 / 255


def test_bfloat16_is_within_a_grey_level_of_float32():
    generator, lr_image = build(), torch.rand(3, 40, 30)
    with torch.no_grad():
        expected = generator(lr_image[None])[0]
    error = (upscale(open_stream(generator, BFLOAT16), lr_image, rows=8) - expected).abs()
    assert error.max() < 1 / 255


def test_attention_in_windows_is_the_layer_on_each_window():
    generator = build(attention=[{"after": "trunk", "pool_size": 2, "resize": "bilinear"}])
    lr_image = torch.rand(3, 10, 13)
    layer = generator.attention_layers["trunk"]
    without = build()
    without.load_state_dict(generator.state_dict(), strict=False)
    with torch.no_grad():
        features = without.features(lr_image[None])
        pooled = layer._pool(features)  # pyright: ignore[reportPrivateUsage]
        attended = torch.cat(
            [
                torch.cat([attend(layer, area) for area in band.split(2, dim=3)], dim=3)
                for band in pooled.split(2, dim=2)
            ],
            dim=2,
        )
        resized = layer.resize(layer.output(attended))[..., :10, :13]
        expected = without.reconstruct(features + layer.gamma * resized)[0]
    sr_image = upscale(open_stream(generator, window_px=4), lr_image, rows=3)
    torch.testing.assert_close(sr_image, expected, rtol=0, atol=1e-6)
    whole = upscale(open_stream(generator), lr_image, rows=3)
    assert (sr_image - whole).abs().max() > 1e-5


def attend(layer: Any, pooled: Tensor) -> Tensor:
    """SAGAN's equations 1 and 2 with a stored map."""
    query, key, value = (f(pooled).flatten(2) for f in (layer.query, layer.key, layer.value))
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
    return (value @ weights.transpose(1, 2)).unflatten(2, pooled.shape[-2:])


def test_bicubic_rows_are_the_bicubic_picture():
    lr_image = torch.rand(3, 13, 9)
    for scale in (2, 4, 8):
        expected = bicubic_upscale(lr_image[None], scale=scale)[0]
        for rows in (1, 5, 100):
            stream = BicubicStream(scale, device=CPU)
            assert torch.equal(upscale(stream, lr_image, rows=rows), expected)


def test_a_picture_that_was_left_half_way_leaves_no_trace():
    generator = build(attention=[{"after": "trunk"}])
    stream, lr_image = open_stream(generator), torch.rand(3, 20, 6)
    expected = upscale(stream, lr_image, rows=3)
    other = stream.run(torch.rand(3, 9, 9), plan_for(stream, torch.rand(3, 9, 9), rows=2))
    next(other)
    assert torch.equal(upscale(stream, lr_image, rows=3), expected)


def test_rows_that_were_given_stay_as_they_are():
    stream, lr_image = open_stream(build()), torch.rand(3, 20, 6)
    rows = stream.run(lr_image, plan_for(stream, lr_image, rows=4))
    first = next(rows)
    copy = first.clone()
    list(rows)
    assert torch.equal(first, copy)


def test_a_disk_too_full_for_features_is_told_in_one_line():
    stream = open_stream(build(attention=[{"after": "trunk"}]))
    lr_image = torch.rand(3, 40, 40)
    plan = plan_for(stream, lr_image, rows=8, is_spilled=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="too full for them; free it, name another folder"):
            list(stream.run(lr_image, plan))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_description_has_every_convolution():
    generator = fold_norms(build(attention=[{"after": "block1"}]))
    described = {step.name for part in describe(generator).segments for step in part.steps}
    convolutions = {n for n, module in generator.named_modules() if isinstance(module, nn.Conv2d)}
    assert described == {name for name in convolutions if not name.startswith("attention.")}
