"""What every loss of the generator's pictures has in common."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ContentLoss(nn.Module, ABC):
    """A loss of the generator's picture, alone or beside the ground truth.

    ``forward`` returns the bare loss, so that it can be logged on its own scale; whoever sums the
    losses multiplies it by ``weight``. It computes in float32 whatever precision the pictures
    have.

    Args:
        weight: factor of this loss in the generator's total.
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The loss before its weight.

        Args:
            sr_image: (N, 3, H, W), about [0, 1]; the gradient goes here.
            hr_image: ground truth, same shape, [0, 1].

        Returns:
            A float32 scalar.
        """
