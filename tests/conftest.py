"""What several tests need."""

from pathlib import Path

import pytest
import torch

# Tests run side by side, one process a core: more threads only get in each other's way.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Benchmarks and published weights that lie beside the checkout of a developer."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "benchmarks").is_dir():
        pytest.skip("the folder with benchmarks and published weights (../shared) is not there")
    return folder
