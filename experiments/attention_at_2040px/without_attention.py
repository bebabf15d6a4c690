"""The same generator without what its attention adds.

python experiments/attention_at_2040px/without_attention.py WEIGHTS OUTPUT.safetensors
"""

import sys

from asrgan.errors import UserError
from asrgan.models import FlexibleSelfAttention, load_generator, read_metadata, save_generator


def main(weights: str, output: str) -> None:
    """Writes the generator with the weight of each attention's skip at 0."""
    generator = load_generator(weights)
    layers = [m for m in generator.modules() if isinstance(m, FlexibleSelfAttention)]
    if not layers:
        raise UserError(f"`{weights}` has no attention.")
    for layer in layers:
        print(f"gamma {layer.gamma.item():.6f} -> 0")
        layer.gamma.data.zero_()
    recipe = read_metadata(weights)["recipe"]
    save_generator(output, generator, recipe=recipe)


if __name__ == "__main__":
    main(*sys.argv[1:])
