import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from asrgan.errors import UserError
from asrgan.models.attention import (
    AttentionPlace,
    FlexibleSelfAttention,
    PlacedAttention,
    Resize,
)


def attention(num_features: int, *, pool_size: int, resize: Resize) -> FlexibleSelfAttention:
    """A layer whose gamma and weights are large enough for attention to matter."""
    torch.manual_seed(num_features + pool_size)
    layer = FlexibleSelfAttention(num_features, pool_size=pool_size, resize=resize)
    layer.gamma.data.fill_(0.7)
    for projection in (layer.query, layer.key):
        projection.weight.data *= 4
    return layer


def numpy_weight(layer: nn.Module) -> NDArray[np.float64]:
    return layer.weight.detach().double().numpy()


def bilinear_matrix(num_in: int, factor: int) -> NDArray[np.float64]:
    """Rows of interpolation weights; pixel centres at half-integers, edges repeated."""
    matrix = np.zeros((num_in * factor, num_in))
    for row in range(num_in * factor):
        position = min(max((row + 0.5) / factor - 0.5, 0), num_in - 1)
        low = min(int(position), num_in - 1)
        high = min(low + 1, num_in - 1)
        matrix[row, low] += 1 - (position - low)
        matrix[row, high] += position - low
    return matrix


def by_hand(layer: FlexibleSelfAttention, features: Tensor, resize: Resize) -> NDArray[np.float64]:
    """One picture through the layer, one position at a time, in NumPy."""
    x = features[0].detach().double().numpy()
    pool = layer.pool_size
    _, height, width = x.shape
    rows, columns = -(-height // pool), -(-width // pool)
    pooled = np.stack(
        [
            x[:, r * pool : (r + 1) * pool, c * pool : (c + 1) * pool].max(axis=(1, 2))
            for r in range(rows)
            for c in range(columns)
        ]
    )
    query, key, value = (
        pooled @ numpy_weight(projection)[:, :, 0, 0].T
        for projection in (layer.query, layer.key, layer.value)
    )
    attended = np.empty_like(value)
    for position, q in enumerate(query):
        weights = np.exp(key @ q - (key @ q).max())
        attended[position] = weights @ value / weights.sum()
    small = numpy_weight(layer.output)[:, :, 0, 0] @ attended.T
    small = small.reshape(-1, rows, columns)
    if pool == 1:
        large = small
    elif resize == "nearest":
        large = small.repeat(pool, axis=1).repeat(pool, axis=2)
    elif resize == "bilinear":
        large = bilinear_matrix(rows, pool) @ small @ bilinear_matrix(columns, pool).T
    else:
        kernel = numpy_weight(layer.resize)
        large = np.einsum("irc,ioyx->orycx", small, kernel)
        large = large.reshape(-1, rows * pool, columns * pool)
    return x + 0.7 * large[:, :height, :width]


@pytest.mark.parametrize("resize", ["transposed", "bilinear", "nearest"])
@pytest.mark.parametrize(
    ("num_features", "pool_size", "size"),
    [(16, 4, (12, 8)), (16, 4, (13, 7)), (48, 3, (5, 11)), (8, 2, (1, 1)), (64, 1, (6, 5))],
)
def test_the_output_equals_a_hand_calculation(
    num_features: int, pool_size: int, size: tuple[int, int], resize: Resize
):
    layer = attention(num_features, pool_size=pool_size, resize=resize)
    features = torch.randn(1, num_features, *size)
    expected = by_hand(layer, features, resize)
    np.testing.assert_allclose(layer(features)[0].detach().numpy(), expected, rtol=0, atol=2e-5)


def test_pool_size_one_is_the_layer_of_sagan():
    """Zhang et al. 2018, equations 1 to 3."""
    layer = attention(32, pool_size=1, resize="transposed")
    x = torch.randn(3, 32, 7, 9)
    c = x.flatten(2)
    w_f, w_g, w_h = (p.weight.flatten(1) for p in (layer.key, layer.query, layer.value))
    s = (w_f @ c).transpose(1, 2) @ (w_g @ c)
    beta = s.exp() / s.exp().sum(dim=1, keepdim=True)
    o = layer.output.weight.flatten(1) @ ((w_h @ c) @ beta)
    torch.testing.assert_close(layer(x), layer.gamma * o.view_as(x) + x, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == [
        "gamma",
        "query.weight",
        "key.weight",
        "value.weight",
        "output.weight",
    ]
    assert w_f.shape == w_g.shape == w_h.shape == (4, 32)


def test_a_fresh_layer_changes_nothing():
    layer = FlexibleSelfAttention(16, pool_size=4, resize="transposed")
    features = torch.randn(2, 16, 9, 10)
    assert torch.equal(layer(features), features)


@pytest.mark.parametrize("pool_size", [1, 3])
def test_rows_of_the_attention_map_sum_to_one_and_weigh_the_values(pool_size: int):
    layer = attention(16, pool_size=pool_size, resize="nearest")
    features = torch.randn(2, 16, 6, 9)
    attention_map = layer.attention_map(features)
    length = (6 // pool_size) * (9 // pool_size)
    assert attention_map.shape == (2, length, length)
    torch.testing.assert_close(attention_map.sum(dim=-1), torch.ones(2, length))

    pooled = nn.functional.max_pool2d(features, pool_size)
    attended = attention_map @ layer.value(pooled).flatten(2).transpose(1, 2)
    small = layer.output(attended.transpose(1, 2).unflatten(2, pooled.shape[-2:]))
    large = small.repeat_interleave(pool_size, 2).repeat_interleave(pool_size, 3)
    torch.testing.assert_close(layer(features), features + 0.7 * large, rtol=1e-4, atol=1e-5)


def test_asked_positions_are_rows_of_the_whole_attention_map():
    layer = attention(16, pool_size=2, resize="nearest")
    features = torch.randn(2, 16, 9, 7)
    asked = layer.attention_map(features, positions=torch.tensor([3, 17]))
    torch.testing.assert_close(asked, layer.attention_map(features)[:, [3, 17]])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num_features", [16, 48, 64])
def test_a_fused_kernel_is_taken_so_that_the_map_is_never_stored(
    num_features: int, memory_format: torch.memory_format
):
    layer = attention(num_features, pool_size=2, resize="bilinear")
    features = torch.randn(1, num_features, 20, 20).contiguous(memory_format=memory_format)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error where it cannot be taken
        layer(features).sum().backward()


def test_gradients_reach_every_weight_once_gamma_is_not_zero():
    layer = attention(16, pool_size=4, resize="transposed")
    layer(torch.randn(1, 16, 10, 10)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def parse(*entries: object) -> list[AttentionPlace]:
    placed = PlacedAttention(
        entries,
        num_features={"head": 8, "block1": 8, "trunk": 8},
        pool_size=4,
        resize="bilinear",
        owner="generator",
    )
    return placed.places


def test_an_entry_takes_what_it_lacks_from_the_common_values():
    assert parse({"after": "trunk"}, {"after": "head", "pool_size": 8, "resize": "nearest"}) == [
        AttentionPlace("trunk", 4, "bilinear"),
        AttentionPlace("head", 8, "nearest"),
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"after": "block9"}],
            r"`generator.attention` has the unknown place `block9`; known: "
            r"head, block1, trunk\.",
        ),
        ([{"after": "trunk"}, {"after": "trunk"}], "the place `trunk` twice"),
        ([{"after": "trunk", "pool": 4}], "unknown key `pool`; known: after, pool_size, resize"),
        ([{"pool_size": 4}], r"without a place; write \{after: trunk\}"),
        (["trunk"], "the entry 'trunk' without a place"),
        ([{"after": "trunk", "pool_size": 0}], r"`pool_size` \(=0\)"),
        ([{"after": "trunk", "pool_size": 2.5}], r"`pool_size` \(=2.5\)"),
        ([{"after": "trunk", "resize": "cubic"}], r"`resize` \(=cubic\) .* known: transposed"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(entries: list[object], message: str):
    with pytest.raises(UserError, match=message) as caught:
        parse(*entries)
    assert "\n" not in str(caught.value)


def test_features_not_divisible_by_eight_are_refused():
    with pytest.raises(UserError, match=r"`num_features` \(=20\) must be divisible by 8.*try 16"):
        FlexibleSelfAttention(20, pool_size=1, resize="nearest")


def test_only_the_listed_places_have_attention():
    placed = PlacedAttention(
        [{"after": "b"}], num_features={"a": 8, "b": 16}, pool_size=2, resize="nearest", owner="x"
    )
    placed["b"].gamma.data.fill_(1)
    features = torch.randn(1, 16, 4, 4)
    assert placed.after("a", features) is features
    torch.testing.assert_close(placed.after("b", features), placed.layers()["b"](features))
    assert placed.as_config() == [{"after": "b", "pool_size": 2, "resize": "nearest"}]
