import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.models.spectral import (
    apply_spectral_norm,
    exact_singular_value,
    fold_spectral_norm,
    largest_singular_value,
)

LAYERS = [
    (nn.Conv2d(6, 10, 3), (2, 6, 8, 8), 0),
    (nn.ConvTranspose2d(6, 10, 2, 2), (2, 6, 8, 8), 1),
    (nn.Linear(12, 5), (3, 12), 0),
]
IDS = ["conv", "transposed", "linear"]


def sigma(weight: Tensor, *, dim: int = 0) -> Tensor:
    return torch.linalg.svdvals(weight.detach().transpose(0, dim).flatten(1))[0]


def normalized(layer: nn.Module) -> nn.Module:
    network = nn.Sequential(copy.deepcopy(layer))
    apply_spectral_norm(network)
    return network[0]


def norm_of(layer: nn.Module) -> nn.Module:
    return layer.parametrizations["weight"][0]


@pytest.mark.parametrize(("layer", "dim"), [(layer, dim) for layer, _, dim in LAYERS], ids=IDS)
def test_a_fresh_layer_has_largest_singular_value_one(layer: nn.Module, dim: int):
    weight = normalized(layer).eval().weight
    torch.testing.assert_close(sigma(weight, dim=dim), torch.tensor(1.0))
    torch.testing.assert_close(weight, layer.weight / sigma(layer.weight, dim=dim))


@pytest.mark.parametrize(("layer", "input_shape", "dim"), LAYERS, ids=IDS)
def test_output_and_gradient_equal_those_of_torch(
    layer: nn.Module, input_shape: tuple[int, ...], dim: int
):
    torch.manual_seed(1)
    ours = normalized(layer).eval()
    theirs = nn.utils.parametrizations.spectral_norm(
        copy.deepcopy(layer), n_power_iterations=1000, dim=dim
    )
    theirs.weight  # noqa: B018 (a read in training mode is what iterates)
    theirs.eval()
    x = torch.randn(input_shape)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours.parametrizations["weight"].original.grad,
        theirs.parametrizations["weight"].original.grad,
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_read_makes_one_iteration_in_training_and_none_in_eval():
    layer = normalized(nn.Linear(7, 4))
    layer.parametrizations["weight"].original.data = torch.randn(4, 7)
    matrix, norm = layer.parametrizations["weight"].original.detach(), norm_of(layer)
    u = F.normalize(matrix @ norm.v, dim=0)
    v = F.normalize(matrix.T @ u, dim=0)

    weight = layer.weight
    torch.testing.assert_close((norm.u, norm.v), (u, v))
    torch.testing.assert_close(weight, matrix / (u @ matrix @ v))
    layer.eval()
    layer.weight  # noqa: B018
    torch.testing.assert_close((norm.u, norm.v), (u, v), rtol=0, atol=0)


def test_the_estimate_follows_a_weight_that_is_trained():
    torch.manual_seed(2)
    layer = normalized(nn.Conv2d(8, 16, 3))
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        layer(torch.randn(2, 8, 6, 6)).square().mean().backward()
        optimizer.step()
    assert sigma(layer.weight).item() == pytest.approx(1, abs=0.02)


def test_an_assigned_weight_is_normalized_exactly():
    layer = normalized(nn.Linear(7, 4)).eval()
    weight = 5 * torch.randn(4, 7)
    layer.weight = weight.clone()
    torch.testing.assert_close(layer.weight, weight / sigma(weight))


def test_bf16_autocast_changes_neither_weight_nor_singular_vectors():
    torch.manual_seed(3)
    plain = normalized(nn.Conv2d(8, 16, 3))
    mixed = copy.deepcopy(plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = mixed.weight
        assert mixed(torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16
    assert torch.equal(weight, plain.weight)
    plain.weight  # noqa: B018 (the second read, as above)
    assert torch.equal(norm_of(mixed).u, norm_of(plain).u)
    assert norm_of(mixed).u.dtype == torch.float32


def test_later_reads_leave_the_gradients_of_earlier_ones_intact():
    layer = normalized(nn.Linear(7, 4))
    x = torch.randn(3, 7)
    copies = [copy.deepcopy(layer).eval(), copy.deepcopy(layer)]
    outputs = [layer.eval()(x), layer.train()(x), layer(x)]
    for output, single in zip(outputs, copies, strict=False):
        expected = torch.autograd.grad(single(x).sum(), single.parametrizations["weight"].original)
        weight = layer.parametrizations["weight"].original
        torch.testing.assert_close(torch.autograd.grad(output.sum(), weight), expected)


def test_building_spectral_norm_draws_no_random_numbers():
    layer = nn.Conv2d(3, 8, 3)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    largest_singular_value(normalized(layer))
    assert torch.equal(torch.get_rng_state(), before)


def test_skipped_layers_stay_plain():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
    apply_spectral_norm(network, skip=("1",))
    assert [name for name, _ in network.named_parameters() if name.startswith("1.")] == [
        "1.weight",
        "1.bias",
    ]
    assert "0.parametrizations.weight.original" in network.state_dict()


def test_folding_keeps_the_function_and_leaves_no_trace():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 2, 2), nn.Flatten())
    network = copy.deepcopy(plain)
    apply_spectral_norm(network)
    x = torch.randn(2, 3, 6, 6)
    network(x)
    expected = network.eval()(x)
    network.train()
    fold_spectral_norm(network)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert [type(layer) for layer in network] == [type(layer) for layer in plain]


def test_folding_a_copy_leaves_the_original_whole():
    network = nn.Sequential(nn.Linear(4, 4))
    apply_spectral_norm(network)
    folded = copy.deepcopy(network)
    fold_spectral_norm(folded)
    x = torch.randn(2, 4)
    torch.testing.assert_close(network.eval()(x), folded(x))


def test_the_largest_singular_value_of_a_network_is_that_of_its_largest_layer():
    network = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(2, 2, 1), nn.PReLU())
    network[0].weight.data = torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    network[1].weight.data = torch.tensor([[0.0, 3.0], [1.0, 0.0]]).view(2, 2, 1, 1)
    assert largest_singular_value(network) == pytest.approx(4)
    assert exact_singular_value(network[1]) == pytest.approx(3)


def test_the_logged_value_is_within_three_percent_for_a_fresh_convolution():
    torch.manual_seed(5)
    layer = nn.Conv2d(64, 256, 3)
    assert largest_singular_value(layer) == pytest.approx(sigma(layer.weight).item(), rel=0.03)


def test_logging_the_singular_value_changes_nothing():
    network = nn.Sequential(nn.Linear(5, 5))
    apply_spectral_norm(network)
    network[0].parametrizations["weight"].original.data = torch.randn(5, 5)
    before = copy.deepcopy(network.state_dict())
    largest_singular_value(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert norm_of(network[0]).training
