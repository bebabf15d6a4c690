"""What generators are called in tables."""

from pathlib import Path

GENERATOR = "generator.safetensors"  # of a run of `asrgan train`


def generator_file(path: Path) -> Path:
    """The generator in the folder of a run; any other path as it is."""
    return path / GENERATOR if path.is_dir() else path


def generator_name(path: Path) -> str:
    """The file's stem; in the folder of a run, where all stems are alike, with the folder's name.

    Args:
        path: of a generator, or the folder of a run.
    """
    file = generator_file(path).absolute()
    if file.parent.name == "checkpoints":
        return f"{file.parents[1].name}_{file.stem}"
    return file.parent.name if file.name == GENERATOR else file.stem
