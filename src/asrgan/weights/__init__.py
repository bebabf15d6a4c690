"""Generators that come with asrgan, by their names.

``sha256sums.txt`` lists them (``sha256sum --check`` takes it); beside each lies its model card.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
TABLE = "sha256sums.txt"


def published() -> dict[str, str]:
    """Name -> SHA-256 of its file."""
    lines = (FOLDER / TABLE).read_text(encoding="utf-8").splitlines()
    return {Path(name).stem: digest for digest, name in map(str.split, lines)}


def find_weights(weights: Path | str) -> Path:
    """The file of a published generator; any other path as it is, whether anything is there or not.

    A published name is a word, whatever the working directory holds, so that it means the same
    everywhere. A file that is called so is ``./srgan_x4``, or a ``Path``.

    Args:
        weights: a published name or a path.
    """
    if isinstance(weights, str) and weights in published():
        return FOLDER / f"{weights}.safetensors"
    return Path(weights)
