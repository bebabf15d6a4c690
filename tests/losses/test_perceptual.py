from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn

from asrgan.errors import UserError
from asrgan.losses import PerceptualLoss

GENERATOR = torch.Generator().manual_seed(0)
SR = torch.rand(2, 3, 6, 8, generator=GENERATOR)
HR = torch.rand(2, 3, 6, 8, generator=GENERATOR)


class DoublingNetwork(nn.Module):
    """``double`` is twice the picture, ``sum`` the sum of its channels; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.calls: list[tuple[set[str], bool]] = []

    def forward(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        self.calls.append((set(layers), torch.is_grad_enabled()))
        maps = {"double": self.factor * image, "sum": image.sum(dim=1, keepdim=True)}
        return {name: maps[name] for name in layers}


def make_loss(**changes: object) -> PerceptualLoss:
    arguments: dict[str, object] = {
        "network": DoublingNetwork(),
        "weight": 9.0,
        "layers": ["double", "sum"],
        "factors": [0.5, 2.0],
        "feature_scale": 0.25,
        "distance": "l2",
    }
    return PerceptualLoss(**{**arguments, **changes})


def test_the_squared_distance_equals_a_hand_calculation():
    double = (0.25 * 2 * (SR - HR)).pow(2).mean()
    channels = (0.25 * (SR - HR).sum(dim=1)).pow(2).mean()
    torch.testing.assert_close(make_loss()(SR, HR), 0.5 * double + 2.0 * channels)


def test_the_absolute_distance_equals_a_hand_calculation():
    double = (0.25 * 2 * (SR - HR)).abs().mean()
    channels = (0.25 * (SR - HR).sum(dim=1)).abs().mean()
    torch.testing.assert_close(make_loss(distance="l1")(SR, HR), 0.5 * double + 2.0 * channels)


def test_the_paper_s_feature_scale_is_six_thousandths_of_the_squared_error():
    paper = make_loss(layers=["double"], factors=None, feature_scale=1 / 12.75)(SR, HR)
    plain = make_loss(layers=["double"], factors=None, feature_scale=1.0)(SR, HR)
    assert (paper / plain).item() == pytest.approx(0.006, rel=0.03)


def test_the_gradient_reaches_the_generated_picture_alone():
    network = DoublingNetwork()
    sr_image, hr_image = SR.clone().requires_grad_(), HR.clone().requires_grad_()
    make_loss(network=network)(sr_image, hr_image).backward()
    assert sr_image.grad is not None
    assert sr_image.grad.abs().sum() > 0
    assert hr_image.grad is None
    assert [with_gradient for _, with_gradient in network.calls] == [False, True]


def test_the_network_is_asked_for_the_named_layers_only():
    network = DoublingNetwork()
    make_loss(network=network, layers=["sum"], factors=[1.0])(SR, HR)
    assert [layers for layers, _ in network.calls] == [{"sum"}, {"sum"}]


def test_the_network_is_in_no_checkpoint_optimizer_or_module_tree():
    loss = make_loss()
    surrounding = nn.ModuleDict({"perceptual": loss})
    assert not surrounding.state_dict()
    assert not list(surrounding.parameters())
    assert list(surrounding.modules()) == [surrounding, loss]


def test_train_mode_does_not_reach_the_network():
    loss = make_loss(network=DoublingNetwork().eval())
    loss.train()
    assert not loss.network.training


def test_the_network_follows_a_surrounding_module_to_its_device():
    loss = make_loss()
    nn.ModuleDict({"perceptual": loss}).to("meta")
    assert loss.network.factor.device.type == "meta"


def test_features_in_bfloat16_are_compared_in_float32():
    value = make_loss(network=DoublingNetwork().bfloat16())(SR.bfloat16(), HR.bfloat16())
    assert value.dtype == torch.float32


@pytest.mark.parametrize("layers", [[], "double", ["sum", "sum"]])
def test_layers_are_a_list_of_different_ones(layers: object):
    with pytest.raises(UserError, match=r"`layers` .* must be a list of different layers"):
        make_loss(layers=layers)


def test_each_layer_has_a_factor():
    with pytest.raises(UserError, match=r"`factors` \(=\[1\.0\]\) .* its layers \(double, sum\)"):
        make_loss(factors=[1.0])


def test_an_unknown_distance_is_a_user_s_mistake():
    with pytest.raises(UserError, match=r"`distance` \(='l3'\).* must be 'l1' or 'l2'"):
        make_loss(distance="l3")


def test_autocast_gets_its_weights_converted_once_and_the_same_values():
    torch.manual_seed(0)
    plain = ConvolutionNetwork()
    loss = make_loss(network=plain, layers=["features"], factors=None)
    sr_image = SR.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(sr_image, HR)
        features = [plain(image, ["features"])["features"] for image in (sr_image, HR)]
        expected = (0.25 * (features[0].float() - features[1].float())).square().mean()
        (gradient,) = torch.autograd.grad(value, sr_image)
        (expected_gradient,) = torch.autograd.grad(expected, sr_image)
        first = loss.network_for("cpu")
        loss(sr_image, HR)
        assert loss.network_for("cpu") is first
    assert value == expected
    torch.testing.assert_close(gradient, expected_gradient)
    assert first.layer.weight.dtype == torch.bfloat16
    assert plain.layer.weight.dtype == torch.float32
    loss.double()
    assert loss(SR.double(), HR.double()).item() == pytest.approx(expected.item(), rel=0.05)


class ConvolutionNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.requires_grad_(False)

    def forward(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.layer(image))
