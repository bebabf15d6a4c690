"""Networks as everybody writes them, to compare with."""

from types import MethodType

from torch import nn

from asrgan.models.blocks import OutputConvolution, PReLU


def use_layers_of_torch(network: nn.Module) -> None:
    """Has layers of asrgan that are faster on a CPU compute as those that they replace."""
    for layer in network.modules():
        for own, plain in ((PReLU, nn.PReLU), (OutputConvolution, nn.Conv2d)):
            if isinstance(layer, own):
                layer.forward = MethodType(plain.forward, layer)
