"""Flexible self-attention (FSA), and where it stands in a network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast, get_args

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
        _check_pool_size(pool_size)
        _check_resize(resize)
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

    def attention_map(self, features: Tensor) -> Tensor:
        """How much each pooled position attends to each other one.

        Stores the map which ``forward`` avoids: 4 * N * L * L bytes in float32, 0.9 GiB for a
        500x500 map pooled by 4.

        Args:
            features: (N, C, H, W).

        Returns:
            (N, L, L) with L = ceil(H / pool_size) * ceil(W / pool_size), row-major; each row
            belongs to one query and sums to 1.
        """
        pooled = self._pool(features)
        query, key = _to_tokens(self.query(pooled)), _to_tokens(self.key(pooled))
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
        attention: one entry per layer, as for ``parse_places``.
        num_features: every place of the network and its number of channels, in order.
        pool_size: for entries without their own.
        resize: for entries without their own.
        owner: what errors call the network.

    Raises:
        UserError: as ``parse_places``, or the channels at a place are not divisible by 8.
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
        self.places = parse_places(
            attention,
            pool_size=pool_size,
            resize=resize,
            known=list(num_features),
            owner=owner,
        )
        for place in self.places:
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


def parse_places(
    attention: Sequence[Mapping[str, object]],
    *,
    pool_size: int,
    resize: str,
    known: Sequence[str],
    owner: str,
) -> list[AttentionPlace]:
    """Checks the ``attention`` list of a configuration.

    Args:
        attention: entries ``{after: NAME, pool_size: INT, resize: NAME}``; the last two may be
            missing.
        pool_size: for entries without their own.
        resize: for entries without their own.
        known: the places there are.
        owner: what errors call the network.

    Raises:
        UserError: a place is unknown or taken twice, a key is unknown, or a value is out of range.
    """
    places: list[AttentionPlace] = []
    for entry in attention:
        place = _parse_place(
            entry, pool_size=pool_size, resize=resize, known=known, name=f"{owner}.attention"
        )
        if any(place.after == other.after for other in places):
            raise UserError(
                f"`{owner}.attention` has the place `{place.after}` twice; keep one entry."
            )
        places.append(place)
    return places


def _parse_place(
    entry: object, *, pool_size: int, resize: str, known: Sequence[str], name: str
) -> AttentionPlace:
    if not isinstance(entry, Mapping) or "after" not in entry:
        raise UserError(
            f"`{name}` has the entry {entry!r} without a place; write {{after: {known[-1]}}}."
        )
    entry = cast("Mapping[str, object]", entry)
    if unknown := sorted(set(entry) - set(AttentionPlace.__dataclass_fields__)):
        raise UserError(
            f"`{name}` has the unknown key `{unknown[0]}`; known: after, pool_size, resize."
        )
    after = str(entry["after"])
    if after not in known:
        raise UserError(f"`{name}` has the unknown place `{after}`; known: {', '.join(known)}.")
    return AttentionPlace(
        after=after,
        pool_size=_check_pool_size(entry.get("pool_size", pool_size)),
        resize=_check_resize(entry.get("resize", resize)),
    )


def _check_pool_size(pool_size: object) -> int:
    if not isinstance(pool_size, int) or isinstance(pool_size, bool) or pool_size < 1:
        raise UserError(f"`pool_size` (={pool_size}) of attention must be an integer from 1 on.")
    return pool_size


def _check_resize(resize: object) -> Resize:
    if resize not in get_args(Resize):
        known = ", ".join(get_args(Resize))
        raise UserError(f"`resize` (={resize}) of attention is unknown; known: {known}.")
    return cast("Resize", resize)


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
