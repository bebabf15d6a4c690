"""The moving average of a network: what is averaged, what is copied."""

import pytest
import torch
from torch import nn

from asrgan.engine import start_average, update_average
from asrgan.engine.averaging import warmed_up


def test_parameters_and_running_statistics_move_by_one_step_towards_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    average = start_average(network)
    start = {name: value.clone() for name, value in average.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network(torch.rand(2, 3, 8, 8))

    update_average(average, network, decay=0.75)

    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            expected = value
        else:
            expected = 0.75 * start[name] + 0.25 * value
        torch.testing.assert_close(average.state_dict()[name], expected)


def test_a_decay_of_zero_copies() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    average = start_average(network)
    with torch.no_grad():
        network[0].weight.normal_()
    network(torch.rand(2, 3, 8, 8))

    update_average(average, network, decay=0.0)

    for name, value in network.state_dict().items():
        torch.testing.assert_close(average.state_dict()[name], value, msg=name)


def test_an_average_soon_forgets_where_it_started() -> None:
    network = nn.Conv2d(1, 1, 1)
    average = start_average(network)
    with torch.no_grad():
        average.weight.fill_(1000)
        network.weight.fill_(1)
    for steps in range(100):
        update_average(average, network, decay=warmed_up(0.999, steps=steps))

    assert average.weight.item() == pytest.approx(1, abs=1e-6)
    assert warmed_up(0.999, steps=10_000) == 0.999


def test_singular_vectors_keep_their_unit_length() -> None:
    network = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    average = start_average(network)
    for _ in range(3):
        with torch.no_grad():
            network.parametrizations.weight.original.normal_()
        network(torch.rand(2, 3, 8, 8))
        update_average(average, network, decay=0.5)

    vectors = [v for name, v in average.state_dict().items() if name.endswith(("_u", "_v"))]
    assert len(vectors) == 2
    for vector in vectors:
        torch.testing.assert_close(vector.norm(), torch.tensor(1.0))
