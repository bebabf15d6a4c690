"""Discriminators: one logit per picture (SRGAN), or one per pixel (Real-ESRGAN)."""

from collections.abc import Mapping, Sequence
from typing import get_args

from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.models.attention import FlexibleSelfAttention, PlacedAttention
from asrgan.models.blocks import Norm, check_choice, check_positive, norm_layer
from asrgan.models.recomputing import runner
from asrgan.models.spectral import apply_spectral_norm

_SLOPE = 0.2  # of every LeakyReLU: Ledig et al. 2017, section 2.1.1; Wang et al. 2021
_POOLED_SIZE = 6  # what four strides of 2 leave of the paper's crop of 96


class VGGDiscriminator(nn.Module):
    """SRGAN's discriminator for pictures of any size, which it sees in [-1, 1] as the paper's does.

    The paper's dense layer fixes the crop at 96 pixels; here the last map is averaged to 6x6
    first, which changes nothing at 96. Attention can follow ``stage1`` ... ``stage4``, with
    1, 2, 4 and 8 times ``num_features`` channels and a stride of 2 each.

    With spectral norm the convolutions start orthogonal: all their singular values are 1 then. Of a
    random start only the largest would be, and what eight layers leave of a picture is so little
    that SR and HR have the same logits to four digits, and D begins late to teach G.

    Args:
        num_features: channels of the first stage, 64 in the paper.
        norm: batch norm, or none, after each convolution but the first.
        spectral_norm: normalizes every convolution and dense layer.
        attention: FSA layers ``{after: PLACE, pool_size: INT, resize: NAME}``, empty for SRGAN.
        pool_size: for attention entries without their own.
        attention_resize: for attention entries without their own.

    Attributes:
        recomputes: whether the backward pass is left the stages' inputs alone; see ``recomputed``.

    Raises:
        UserError: an argument is out of its range, or a place is unknown or taken twice.

    Source: Ledig et al. 2017, figure 4 and section 3.2; attention and spectral norm: Pathak et al.
    2018; orthogonal start: Brock et al. 2019, section 3.
    """

    def __init__(
        self,
        *,
        num_features: int,
        norm: Norm,
        spectral_norm: bool,
        attention: Sequence[Mapping[str, object]],
        pool_size: int,
        attention_resize: str,
    ) -> None:
        super().__init__()
        check_positive("discriminator.num_features", num_features)
        check_choice("discriminator.norm", norm, get_args(Norm))
        widths = _stage_widths(num_features)
        num_dense = 2 * widths[-1]

        self.stages = nn.ModuleList(
            nn.Sequential(
                *_convolution(num_in, width, stride=1, norm=first_norm),
                *_convolution(width, width, stride=2, norm=norm),
            )
            for num_in, width, first_norm in zip(
                (3, *widths), widths, ("none", norm, norm, norm), strict=False
            )
        )
        self.attention = PlacedAttention(
            attention,
            num_features=_places(widths),
            pool_size=pool_size,
            resize=attention_resize,
            owner="discriminator",
        )
        self.dense = nn.Sequential(
            nn.AdaptiveAvgPool2d(_POOLED_SIZE),
            nn.Flatten(),
            nn.Linear(widths[-1] * _POOLED_SIZE**2, num_dense),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(num_dense, 1),
        )
        if spectral_norm:
            _start_orthogonal(self.stages)
            apply_spectral_norm(self)
        self.recomputes = False

    @property
    def attention_layers(self) -> Mapping[str, FlexibleSelfAttention]:
        """The FSA layers by place."""
        return self.attention.layers()

    def forward(self, image: Tensor) -> Tensor:
        """Logits, large for real pictures: (N, 3, H, W) in [0, 1] to (N, 1)."""
        features = 2 * image - 1
        run = runner(recomputes=self.recomputes)
        for number, stage in enumerate(self.stages, start=1):
            features = self.attention.after(f"stage{number}", run(stage, features))
        return self.dense(features)


def _start_orthogonal(stages: nn.Module) -> None:
    for layer in stages.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator, a U-Net with a logit for each pixel.

    For pictures of any size from 8x8 on. Attention can follow ``stage1`` ... ``stage4`` of the
    encoder, with 1, 2, 4 and 8 times ``num_features`` channels, at full, half, quarter and eighth
    size.

    Args:
        num_features: channels at full size, 64 in the paper.
        spectral_norm: normalizes every convolution but the first and the last, as the authors do.
        attention: FSA layers ``{after: PLACE, pool_size: INT, resize: NAME}``.
        pool_size: for attention entries without their own.
        attention_resize: for attention entries without their own.

    Attributes:
        recomputes: whether the backward pass is left the parts' inputs alone; see ``recomputed``.

    Raises:
        UserError: an argument is out of its range, or a place is unknown or taken twice.

    Source: Wang et al. 2021 (arXiv 2107.10833), section 3.3, and the authors' code for the widths.
    """

    def __init__(
        self,
        *,
        num_features: int,
        spectral_norm: bool,
        attention: Sequence[Mapping[str, object]],
        pool_size: int,
        attention_resize: str,
    ) -> None:
        super().__init__()
        check_positive("discriminator.num_features", num_features)
        widths = _stage_widths(num_features)

        self.first = nn.Conv2d(3, num_features, 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False) for width in widths[:-1]
        )
        self.decoder = nn.ModuleList(
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False) for width in widths[-2::-1]
        )
        self.refine = nn.Sequential(
            nn.Conv2d(num_features, num_features, 3, padding=1, bias=False),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(num_features, num_features, 3, padding=1, bias=False),
            nn.LeakyReLU(_SLOPE),
        )
        self.last = nn.Conv2d(num_features, 1, 3, padding=1)
        self.attention = PlacedAttention(
            attention,
            num_features=_places(widths),
            pool_size=pool_size,
            resize=attention_resize,
            owner="discriminator",
        )
        if spectral_norm:
            apply_spectral_norm(self, skip=("first", "last"))
        self.recomputes = False

    @property
    def attention_layers(self) -> Mapping[str, FlexibleSelfAttention]:
        """The FSA layers by place."""
        return self.attention.layers()

    def forward(self, image: Tensor) -> Tensor:
        """Logits, large for real pixels: (N, 3, H, W) in [0, 1] to (N, 1, H, W)."""
        run = runner(recomputes=self.recomputes)
        features = self.attention.after("stage1", run(self.first, image, call=_activated))
        skips: list[Tensor] = []
        for number, convolution in enumerate(self.encoder, start=2):
            skips.append(features)
            features = run(convolution, features, call=_activated)
            features = self.attention.after(f"stage{number}", features)
        for convolution in self.decoder:
            features = run(convolution, features, skips.pop(), call=_decoded)
        return self.last(run(self.refine, features))


def _activated(convolution: nn.Module, features: Tensor) -> Tensor:
    return F.leaky_relu(convolution(features), _SLOPE)


def _decoded(convolution: nn.Module, features: Tensor, skip: Tensor) -> Tensor:
    # To the skip's size rather than twice: the same, and right for odd sizes as well.
    features = F.interpolate(features, size=skip.shape[-2:], mode="bilinear")
    return _activated(convolution, features) + skip


def _stage_widths(num_features: int) -> list[int]:
    return [num_features * factor for factor in (1, 2, 4, 8)]


def _places(widths: Sequence[int]) -> dict[str, int]:
    return {f"stage{number}": width for number, width in enumerate(widths, start=1)}


def _convolution(num_in: int, num_out: int, *, stride: int, norm: Norm) -> list[nn.Module]:
    """Convolution, norm, LeakyReLU; no bias where a batch norm would take it away again."""
    return [
        nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=norm == "none"),
        norm_layer(num_out, norm=norm),
        nn.LeakyReLU(_SLOPE),
    ]
