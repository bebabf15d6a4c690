"""Flexible self-attention (FSA), and where it stands in a network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.errors import UserError

Resize = Literal["transposed", "bilinear", "nearest"]
_CHANNEL_RATIO = 8  # SAGAN, section 3: C-bar = C / 8


class FlexibleSelfAttention(nn.Module):
    """Self-attention on a max-pooled feature map, resized back and added with a learned weight.

    ``pool_size=1`` is SAGAN's layer: nothing is pooled and nothing is resized. The weight gamma
    starts at 0, so a layer put into a trained network leaves its function as it was. The
    attention map is never stored: memory is linear in the number of positions, time quadratic.

    Args:
        num_features: channels C of the map, divisible by 8.
        pool_size: side of the pooling window, 1 or more.
        resize: how the result gets its size back: a learned transposed convolution without
            overlap, or bilinear or nearest interpolation.

    Raises:
        UserError: an argument is out of its range.

    Source: Pathak et al. 2018 (flexible self-attention); Zhang et al. 2018, section 3, equations
        1-3 (softmax without scaling, gamma; C / 8 channels for query, key and value).
    """

    def __init__(self, num_features: int, *, pool_size: int, resize: Resize) -> None:
        super().__init__()
        if num_features % _CHANNEL_RATIO:
            nearest = _CHANNEL_RATIO * max(1, round(num_features / _CHANNEL_RATIO))
            raise UserError(
                f"`num_features` (={num_features}) must be divisible by {_CHANNEL_RATIO} where "
                f"attention stands; try {nearest}."
            )
        if not isinstance(pool_size, int) or pool_size < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - YAML
            raise UserError(
                f"`pool_size` (={pool_size}) of attention must be an integer from 1 on."
            )
        if resize not in get_args(Resize):
            known = ", ".join(get_args(Resize))
            raise UserError(f"`resize` (={resize}) of attention is unknown; known: {known}.")
        self.pool_size = pool_size
        num_inner = num_features // _CHANNEL_RATIO
        self.query = nn.Conv2d(num_features, num_inner, 1, bias=False)
        self.key = nn.Conv2d(num_features, num_inner, 1, bias=False)
        self.value = nn.Conv2d(num_features, num_inner, 1, bias=False)
        self.output = nn.Conv2d(num_inner, num_features, 1, bias=False)
        self.resize = _resize_layer(num_features, pool_size=pool_size, resize=resize)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Features plus gamma times what they attend to.

        Args:
            features: (N, C, H, W), any height and width.

        Returns:
            (N, C, H, W).
        """
        height, width = features.shape[-2:]
        pooled = self._pool(features)
        tokens = [_to_tokens(layer(pooled)) for layer in (self.query, self.key, self.value)]
        # Kernels that never store the map want a head dimension, tokens that are contiguous and
        # equally long, and on a GPU a length divisible by 8: zeros change no product.
        padding = -tokens[0].shape[2] % 8
        query, key, value = (F.pad(t.contiguous(), (0, padding)).unsqueeze(1) for t in tokens)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        attended = attended[..., : tokens[2].shape[2]].transpose(1, 2)
        attended = attended.unflatten(2, pooled.shape[-2:])
        resized = self.resize(self.output(attended))[..., :height, :width]
        # In the features' precision: a float32 gamma would make all that follows float32.
        return features + self.gamma.to(resized.dtype) * resized

    def attention_map(self, features: Tensor, *, positions: Tensor | None = None) -> Tensor:
        """How much pooled positions attend to each one.

        Stores the map which ``forward`` avoids: 4 * N * L * L bytes in float32, 0.9 GiB for a
        500x500 map pooled by 4, if all of them are asked.

        Args:
            features: (N, C, H, W).
            positions: (Q,) those that are asked, row-major; None: all.

        Returns:
            (N, Q, L) with L = ceil(H / pool_size) * ceil(W / pool_size), row-major; each row
            belongs to one query and sums to 1.
        """
        pooled = self._pool(features)
        query, key = _to_tokens(self.query(pooled)), _to_tokens(self.key(pooled))
        if positions is not None:
            query = query[:, positions]
        return torch.softmax(query @ key.transpose(1, 2), dim=-1)

    def _pool(self, features: Tensor) -> Tensor:
        if self.pool_size == 1:
            return features
        return F.max_pool2d(features, self.pool_size, ceil_mode=True)


@dataclass(frozen=True)
class AttentionPlace:
    """One FSA layer of a network: the place it follows, and its form."""

    after: str
    pool_size: int
    resize: Resize


class PlacedAttention(nn.ModuleDict):
    """The FSA layers of a network, by the name of the place they follow.

    Args:
        attention: one entry per layer, ``{after: PLACE, pool_size: INT, resize: NAME}``; the last
            two may be missing.
        num_features: every place of the network and its number of channels, in order.
        pool_size: for entries without their own.
        resize: for entries without their own.
        owner: what errors call the network.

    Raises:
        UserError: a place is unknown or taken twice, a key is unknown, a value is out of range, or
            the channels at a place are not divisible by 8.
    """

    def __init__(
        self,
        attention: Sequence[Mapping[str, object]],
        *,
        num_features: Mapping[str, int],
        pool_size: int,
        resize: str,
        owner: str,
    ) -> None:
        super().__init__()
        self.places: list[AttentionPlace] = []
        name, known = f"{owner}.attention", list(num_features)
        for entry in attention:
            if not isinstance(entry, Mapping) or "after" not in entry:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UserError(
                    f"`{name}` has the entry {entry!r} without a place; write"
                    f" {{after: {known[-1]}}}."
                )
            settings: dict[str, Any] = {"pool_size": pool_size, "resize": resize, **entry}
            if unknown := sorted(set(settings) - set(AttentionPlace.__dataclass_fields__)):
                raise UserError(
                    f"`{name}` has the unknown key `{unknown[0]}`; known: after, pool_size, resize."
                )
            place = AttentionPlace(**settings)
            if place.after not in num_features:
                raise UserError(
                    f"`{name}` has the unknown place `{place.after}`; known: {', '.join(known)}."
                )
            if place.after in self:
                raise UserError(f"`{name}` has the place `{place.after}` twice; keep one entry.")
            self.places.append(place)
            self[place.after] = FlexibleSelfAttention(
                num_features[place.after], pool_size=place.pool_size, resize=place.resize
            )

    def after(self, place: str, features: Tensor) -> Tensor:
        """The features with attention if a layer stands after ``place``, else unchanged."""
        return self[place](features) if place in self else features

    def layers(self) -> dict[str, FlexibleSelfAttention]:
        """The layers by place."""
        return cast("dict[str, FlexibleSelfAttention]", dict(self.items()))

    def as_config(self) -> list[dict[str, object]]:
        """The places as ``attention`` entries with every value written out."""
        return [asdict(place) for place in self.places]


def _resize_layer(num_features: int, *, pool_size: int, resize: Resize) -> nn.Module:
    """A layer that enlarges exactly ``pool_size`` times."""
    if pool_size == 1:
        return nn.Identity()
    if resize == "transposed":
        return nn.ConvTranspose2d(num_features, num_features, pool_size, pool_size, bias=False)
    return nn.Upsample(scale_factor=pool_size, mode=resize)


def _to_tokens(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H * W, C)."""
    return features.flatten(2).transpose(1, 2)
