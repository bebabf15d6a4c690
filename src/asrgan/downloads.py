"""Published weights from torchvision's cache, or fetched into it."""

import socket
from http.client import HTTPException
from pathlib import Path

import torch

from asrgan.errors import UserError

_TIMEOUT_S = 10.0  # of a silent connection; urllib by itself would wait for ever


class WeightsUnavailableError(UserError):
    """Weights that are neither cached nor downloadable."""


def fetch_weights(url: str, *, purpose: str, sha256: str | None = None) -> Path:
    """The file of an address in ``$TORCH_HOME/hub/checkpoints``; downloaded if it is not there yet.

    Args:
        url: what is downloaded is checked against ``sha256``.
        purpose: what needs it, for the message.
        sha256: of the file; None: its head ends the file's name, as in torchvision's addresses.

    Raises:
        WeightsUnavailableError: names the purpose, the file's path and the address.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hash_prefix = sha256 or path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: wrong hash
        raise WeightsUnavailableError(
            f"{purpose} needs {path}, which is not there, and {url} could not be downloaded"
            f" ({error}); put the file there."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path
