"""Which way a validation score is better."""

from asrgan.metrics import METRICS

DIRECTIONS = {name: 1 if metric.is_higher_better else -1 for name, metric in METRICS.items()} | {
    "content_loss": -1
}
"""Score of a validation -> 1 where higher is better, -1 where lower is."""
