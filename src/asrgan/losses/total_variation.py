"""A prior for smooth pictures."""

from torch import Tensor

from asrgan.losses.content import ContentLoss


class TotalVariationLoss(ContentLoss):
    """Mean absolute step to the next pixel below plus to the next on the right, units of [0, 1].

    The anisotropic form, averaged instead of summed so that its weight does not depend on the size
    of the crop. Source: Rudin, Osher and Fatemi 1992.
    """

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:  # noqa: ARG002 - one signature
        """The loss of ``sr_image`` alone; see `ContentLoss.forward`."""
        image = sr_image.float()
        down = image[..., 1:, :] - image[..., :-1, :]
        right = image[..., :, 1:] - image[..., :, :-1]
        return down.abs().mean() + right.abs().mean()
