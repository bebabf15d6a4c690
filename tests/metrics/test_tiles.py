import pytest
import torch

from asrgan.metrics.tiles import Mean, spans


@pytest.mark.parametrize("length", [1, 16, 31, 32, 33, 200])
def test_the_kept_parts_cover_a_side_once_and_are_read_with_what_lies_around(length: int):
    pieces = list(spans(length, keep_px=32, margin_px=8))
    kept = [place for span in pieces for place in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    for span in pieces:
        assert span.start == max(span.keep_start - 8, 0)
        assert span.stop == min(span.keep_stop + 8, length)


@pytest.mark.parametrize("stride", [1, 4])
def test_what_is_kept_of_the_pieces_is_the_whole(stride: int):
    side = torch.arange(103)
    parts = [
        side[span.read][stride - 1 :: stride][span.kept(stride)]
        for span in spans(len(side), keep_px=32, margin_px=8)
    ]
    assert torch.cat(parts).equal(side[stride - 1 :: stride])


def test_the_mean_of_pieces_is_that_of_the_whole():
    picture = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    mean = Mean()
    for rows in picture.split(7, dim=2):
        mean.add(rows)
    torch.testing.assert_close(mean.value, picture.double().mean(dim=(2, 3)), rtol=1e-6, atol=0)
