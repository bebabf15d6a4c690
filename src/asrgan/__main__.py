"""``python -m asrgan`` is the command ``asrgan``."""

from asrgan.cli import main

main()
