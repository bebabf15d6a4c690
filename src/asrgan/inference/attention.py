"""Attention over a picture whose features come and go in rows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.inference.network import Place
from asrgan.models import FlexibleSelfAttention

# In one call: pairs of a query and a key for some tenths of a second, so that Ctrl-C is heard, but
# queries enough for the threads, which take 256 each.
_PAIRS_PER_CALL = 1 << 28
_MIN_QUERIES = 2048


class RowAttention:
    """One FSA layer for one picture: takes all rows of its features, then adds to them.

    It keeps query, key and value of each pooled position; the features wait elsewhere.

    Args:
        layer: has the weights, float32.
        place: where it stands.
        height: of the LR picture.
        width: of the LR picture.
        window_px: of LR; a query sees the keys of its window only. None: of the whole picture.
        dtype: of query, key and value.
        device: of torch.
    """

    def __init__(
        self,
        layer: FlexibleSelfAttention,
        place: Place,
        *,
        height: int,
        width: int,
        window_px: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._layer = layer
        self._place = place
        self._width = width * place.resolution
        size = place.pooled_size(height, width)
        self._tokens = torch.zeros((3, *size, place.token_features), dtype=dtype, device=device)
        self._window = None if window_px is None else place.window(window_px)
        self._num_collected = 0
        self._waiting: Tensor | None = None  # rows of a pooling window that is not complete
        self._last_resized = (0, 0, self._tokens)  # first row, the one behind the last, the rows

    def collect(self, features: Tensor) -> None:
        """Takes the next rows, (1, C, R, W)."""
        pool_size = self._place.pool_size
        if self._waiting is not None:
            missing = pool_size - self._waiting.shape[2]
            self._waiting = torch.cat([self._waiting, features[:, :, :missing]], dim=2)
            features = features[:, :, missing:]
            if self._waiting.shape[2] < pool_size:
                return
            self._project(self._waiting)
        rest = features.shape[2] % pool_size
        whole = features.shape[2] - rest
        if whole:
            self._project(features[:, :, :whole])
        self._waiting = features[:, :, whole:].clone() if rest else None

    def attend(self) -> None:
        """Lets each query attend, once all rows are collected. The results take their places."""
        if self._waiting is not None:
            self._project(self._waiting)
            self._waiting = None
        query, key, value = self._tokens
        height, width = query.shape[:2]
        assert self._num_collected == height
        window = self._window or max(height, width)
        for top in range(0, height, window):
            for left in range(0, width, window):
                area = slice(top, top + window), slice(left, left + window)
                query[area] = _attend(query[area], key[area], value[area])

    def add(self, features: Tensor, first_row: int, *, to: Tensor) -> None:
        """Writes rows of features, from ``first_row`` on, with what they attend to.

        Args:
            features: (1, C, R, W).
            first_row: of the map.
            to: the same shape.
        """
        attended = self._resized(first_row, first_row + features.shape[2])
        torch.add(features, attended[..., : self._width], alpha=self._layer.gamma.item(), out=to)

    def _project(self, features: Tensor) -> None:
        """Query, key and value of pooling windows, of which the picture's last may be cut off."""
        if self._place.pool_size > 1:
            features = F.max_pool2d(features, self._place.pool_size, ceil_mode=True)
        features = features.to(self._layer.query.weight.dtype)
        start, stop = self._num_collected, self._num_collected + features.shape[2]
        layers = (self._layer.query, self._layer.key, self._layer.value)
        for tokens, layer in zip(self._tokens, layers, strict=True):
            tokens[start:stop, :, : self._place.num_inner] = layer(features)[0].permute(1, 2, 0)
        self._num_collected = stop

    def _resized(self, start: int, stop: int) -> Tensor:
        """Rows of the layer's resized result, (1, C, stop - start, W or more)."""
        pool_size = self._place.pool_size
        resize = self._layer.resize
        if isinstance(resize, nn.Upsample) and resize.mode == "bilinear":
            # Between rows by hand, since their weights depend on the place in the whole map.
            return F.interpolate(
                self._output(self._rows_between(start, stop)),
                scale_factor=(1.0, float(pool_size)),
                mode="bilinear",
            )
        # Whole pooling windows, which serve the next call as well if it wants few rows.
        first, behind, rows = self._last_resized
        if not first <= start < stop <= behind:
            pooled = slice(start // pool_size, -(-stop // pool_size))
            attended = self._tokens[0, pooled, :, : self._place.num_inner]
            first, behind = pool_size * pooled.start, pool_size * pooled.stop
            rows = resize(self._output(attended))
            self._last_resized = first, behind, rows
        return rows[:, :, start - first : stop - first]

    def _rows_between(self, start: int, stop: int) -> Tensor:
        """Rows of the attended map as bilinear interpolation mixes them, (rows, W, inner)."""
        rows = self._tokens[0, :, :, : self._place.num_inner]
        positions = torch.arange(start, stop, device=rows.device, dtype=torch.float32) + 0.5
        positions = (positions * (1 / self._place.pool_size) - 0.5).clamp_min(0)
        above = positions.long()
        below = (above + 1).clamp_max(rows.shape[0] - 1)
        weight = (positions - above)[:, None, None].to(rows.dtype)
        return rows[above] * (1 - weight) + rows[below] * weight

    def _output(self, attended: Tensor) -> Tensor:
        """(rows, W, inner) to (1, C, rows, W), float32."""
        weight = self._layer.output.weight
        return F.conv2d(attended.permute(2, 0, 1)[None].to(weight.dtype), weight)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention among positions, all (H, W, features); the attention map is never stored."""
    keys, values = (t.flatten(0, 1)[None, None] for t in (key, value))
    size = max(_MIN_QUERIES, _PAIRS_PER_CALL // keys.shape[2])
    parts = [
        F.scaled_dot_product_attention(part[None, None], keys, values, scale=1.0)[0, 0]
        for part in query.flatten(0, 1).split(size)
    ]
    return torch.cat(parts).view_as(query)
