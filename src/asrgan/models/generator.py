"""SRGAN's generator, with flexible self-attention between any two convolutions."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from asrgan.models.attention import FlexibleSelfAttention, PlacedAttention
from asrgan.models.blocks import (
    Norm,
    OutputConvolution,
    PReLU,
    ResidualBlock,
    UpsampleBlock,
    check_choice,
    check_positive,
    norm_layer,
)
from asrgan.models.recomputing import runner
from asrgan.models.spectral import apply_spectral_norm

TrunkEnd = Literal["norm", "prelu"]
Output = Literal["linear", "tanh"]
_NUM_UPSAMPLINGS = {2: 1, 4: 2, 8: 3}


class SRGANGenerator(nn.Module):
    """Enlarges pictures: residual blocks at LR size, then sub-pixel upsampling.

    Attention can follow ``head``, ``block1`` ... ``blockN``, ``trunk`` (after the long skip),
    ``upsample1`` ... (one per factor of 2).

    Args:
        scale: 2, 4 or 8.
        num_features: channels of the trunk, 64 in the paper.
        num_blocks: residual blocks, 16 in the paper.
        norm: batch norm, or none, in the blocks and at the trunk's end.
        trunk_end: what follows the trunk's last convolution: the norm, as in the paper, or a
            PReLU, as in some published weights.
        output: ``linear`` is unbounded; ``tanh`` is (tanh(x) + 1) / 2, within [0, 1].
        spectral_norm: normalizes every convolution.
        spectral_norm_output: whether the output convolution is among them.
        attention: FSA layers ``{after: PLACE, pool_size: INT, resize: NAME}``, empty for SRGAN.
        pool_size: for attention entries without their own.
        attention_resize: for attention entries without their own.

    Attributes:
        recomputes: whether the backward pass is left the blocks' inputs alone; see ``recomputed``.

    Raises:
        UserError: an argument is out of its range, or a place is unknown or taken twice.

    Source: Ledig et al. 2017, figure 4; attention and spectral norm: Pathak et al. 2018.
    """

    def __init__(
        self,
        *,
        scale: int,
        num_features: int,
        num_blocks: int,
        norm: Norm,
        trunk_end: TrunkEnd,
        output: Output,
        spectral_norm: bool,
        spectral_norm_output: bool,
        attention: Sequence[Mapping[str, object]],
        pool_size: int,
        attention_resize: str,
    ) -> None:
        super().__init__()
        check_choice("scale", scale, _NUM_UPSAMPLINGS)
        check_positive("generator.num_features", num_features)
        check_positive("generator.num_blocks", num_blocks)
        check_choice("generator.norm", norm, get_args(Norm))
        check_choice("generator.trunk_end", trunk_end, get_args(TrunkEnd))
        check_choice("generator.output", output, get_args(Output))
        num_upsamplings = _NUM_UPSAMPLINGS[scale]

        self.head = nn.Sequential(nn.Conv2d(3, num_features, 9, padding=4), PReLU())
        self.blocks = nn.ModuleList(
            ResidualBlock(num_features, norm=norm) for _ in range(num_blocks)
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(num_features, num_features, 3, padding=1),
            PReLU() if trunk_end == "prelu" else norm_layer(num_features, norm=norm),
        )
        self.upsamples = nn.ModuleList(UpsampleBlock(num_features) for _ in range(num_upsamplings))
        self.tail = OutputConvolution(num_features, 3, 9, padding=4)
        places = [
            "head",
            *(f"block{number}" for number in range(1, num_blocks + 1)),
            "trunk",
            *(f"upsample{number}" for number in range(1, num_upsamplings + 1)),
        ]
        self.attention = PlacedAttention(
            attention,
            num_features=dict.fromkeys(places, num_features),
            pool_size=pool_size,
            resize=attention_resize,
            owner="generator",
        )
        if spectral_norm:
            apply_spectral_norm(self, skip=() if spectral_norm_output else ("tail",))

        self.recomputes = False
        self.scale = scale
        self.output: Output = output
        self.architecture: dict[str, object] = {
            "scale": scale,
            "num_features": num_features,
            "num_blocks": num_blocks,
            "norm": norm,
            "trunk_end": trunk_end,
            "output": output,
            "spectral_norm": spectral_norm,
            "spectral_norm_output": spectral_norm_output,
            "attention": self.attention.as_config(),
            "pool_size": pool_size,
            "attention_resize": attention_resize,
        }

    @property
    def attention_layers(self) -> Mapping[str, FlexibleSelfAttention]:
        """The FSA layers by place."""
        return self.attention.layers()

    def forward(self, lr_image: Tensor) -> Tensor:
        """Super-resolved pictures.

        Args:
            lr_image: (N, 3, H, W) in [0, 1].

        Returns:
            (N, 3, scale * H, scale * W); values of a ``linear`` output may leave [0, 1].
        """
        return self.reconstruct(self.features(lr_image))

    def features(self, lr_image: Tensor) -> Tensor:
        """The trunk, all of it at LR size: (N, 3, H, W) in [0, 1] to (N, num_features, H, W)."""
        run = runner(recomputes=self.recomputes)
        head = self.attention.after("head", self.head(lr_image))
        features = head
        for number, block in enumerate(self.blocks, start=1):
            features = self.attention.after(f"block{number}", run(block, features))
        return self.attention.after("trunk", head + self.trunk(features))

    def reconstruct(self, features: Tensor) -> Tensor:
        """The tail: (N, num_features, H, W) to pictures (N, 3, scale * H, scale * W)."""
        run = runner(recomputes=self.recomputes)
        for number, upsample in enumerate(self.upsamples, start=1):
            features = self.attention.after(f"upsample{number}", run(upsample, features))
        image = self.tail(features)
        return (torch.tanh(image) + 1) / 2 if self.output == "tanh" else image
