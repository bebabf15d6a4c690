"""Draws each degradation of one crop of scikit-image's astronaut.

python experiments/degradations/draw.py     writes docs/degradations.png

The columns are HR and the options of conf/degradation, the rows three sample numbers. LR is shown
with its pixels enlarged to HR's size.
"""

from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch.nn import functional as F

from asrgan.configuration import compose
from asrgan.imaging import to_array, to_tensor, write_image

NAMES = ("bicubic", "camera_jpeg", "light", "realistic")
SAMPLE_NUMBERS = (0, 1, 2)
TOP_PX, LEFT_PX, SIZE_PX = 8, 136, 192
HEAD_PX, GAP_PX = 24, 4


def main() -> None:
    """Writes the picture."""
    crop = data.astronaut()[TOP_PX : TOP_PX + SIZE_PX, LEFT_PX : LEFT_PX + SIZE_PX]
    hr_image = to_tensor(crop).expand(len(SAMPLE_NUMBERS), -1, -1, -1)
    columns = {"HR": hr_image}
    for name in NAMES:
        config = compose("train", [f"degradation={name}"])
        degradation = instantiate(config["degradation"], _convert_="all")
        lr_image = degradation(hr_image, sample_numbers=SAMPLE_NUMBERS)
        columns[name] = F.interpolate(lr_image, SIZE_PX, mode="nearest")
    step = SIZE_PX + GAP_PX
    size = (len(columns) * step - GAP_PX, HEAD_PX + len(SAMPLE_NUMBERS) * step - GAP_PX)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for column, (name, images) in enumerate(columns.items()):
        pen.text((column * step, 1), name, fill="black", font=font)
        for row, image in enumerate(images):
            picture = Image.fromarray(to_array(image))
            sheet.paste(picture, (column * step, HEAD_PX + row * step))
    write_image(Path(__file__).parents[2] / "docs" / "degradations.png", np.asarray(sheet))


if __name__ == "__main__":
    main()
