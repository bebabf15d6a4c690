"""The page, driven in a real browser."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrgan.data import Benchmark
from asrgan.studies.report import Run, StudyResults, find, make_examples, write_report

Open = Callable[..., Any]
MakeResults = Callable[..., StudyResults]
EVERY = '[...document.querySelectorAll("{}")].map((element) => {})'


@pytest.fixture(scope="module")
def examples(
    full_runs: Callable[[], list[Run]],
    make_results: MakeResults,
    benchmarks: dict[str, Benchmark],
) -> list[Any]:
    return make_examples(
        make_results(full_runs()),
        benchmarks,
        count=4,
        num_explored=2,
        crop_size_px=96,
        device="cpu",
        advance=lambda: None,
    )


@pytest.fixture(scope="module")
def report(
    full_runs: Callable[[], list[Run]],
    make_results: MakeResults,
    examples: list[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(find(make_results(full_runs()), seed=1), folder, examples=examples)
    return folder / "report.html"


def texts(page: Any, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def test_the_question_the_verdict_and_the_numbers_are_there(visit: Open, report: Path):
    page = visit(report)
    assert page.title() == "Does attention help? – a study"
    assert page.get_by_role("heading", level=1).inner_text() == "Does attention help?"
    assert (
        page.locator(".lead").inner_text().startswith("Compared with SRGAN, A-SRGAN is better by")
    )
    row = page.get_by_role("row", name=re.compile("^A-SRGAN")).first
    assert "better by 0." in row.inner_text()
    assert texts(page, "[data-benchmark='0'] tbody th") == [
        "bicubic reference", "SRGAN baseline", "A-SRGAN", "pool 8",
    ]  # fmt: skip


def test_a_table_sorts_by_a_click(visit: Open, report: Path):
    page = visit(report)
    table = page.locator("[data-benchmark='0'] table")
    cells = "[data-benchmark='0'] td:nth-child(2)"
    values = EVERY.format(cells, "Number(element.dataset.value)")
    heading = table.get_by_role("columnheader", name="PSNR-Y, dB ↑")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.evaluate(values) == sorted(page.evaluate(values), reverse=True)
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(values) == sorted(page.evaluate(values))
    table.get_by_role("button", name="Model").click()
    assert table.locator("[aria-sort]").count() == 1
    assert texts(page, "[data-benchmark='0'] tbody th")[0] == "A-SRGAN"
    # Whatever is sorted, a line stays a line.
    bicubic = table.get_by_role("row", name=re.compile("bicubic"))
    assert float(bicubic.locator("td").first.get_attribute("data-value")) == min(
        page.evaluate(values)
    )


def test_an_empty_cell_stands_last_in_both_orders(visit: Open, report: Path):
    page = visit(report)
    heading = page.locator("#costs").get_by_role("button", name="parameters, M")
    for _ in range(2):
        heading.click()
        assert texts(page, "#costs tbody th")[-1] == "bicubic"


def test_pictures_and_spread_are_chosen(visit: Open, report: Path):
    page = visit(report)
    visible = EVERY.format(".panel caption", "element.checkVisibility() && element.innerText")
    assert page.evaluate(visible) == ["All pictures, 12 pictures", False, False]
    page.get_by_role("radio", name="Seven").check()
    assert page.evaluate(visible) == [False, False, "Seven, 7 pictures"]
    spread = page.locator("[data-benchmark='2'] small.interval").first
    assert not spread.is_visible()
    page.get_by_label("95% interval").check()
    assert spread.is_visible()
    assert re.fullmatch(r"\d\d\.\d\d to \d\d\.\d\d", spread.inner_text())


def test_curves_have_a_line_and_a_band_for_each_variant_that_is_shown(visit: Open, report: Path):
    page = visit(report)
    chart = page.locator("#curves-chart")
    chart.scroll_into_view_if_needed()
    lines = chart.locator("[aria-label=line] path")
    lines.first.wait_for()
    assert lines.count() == chart.locator("[aria-label=area] path").count() == 3
    page.locator("#curves").get_by_role("button", name="A-SRGAN").click()
    assert lines.count() == 2
    pressed = EVERY.format("[data-model='A-SRGAN'][aria-pressed]", "element.ariaPressed")
    assert set(page.evaluate(pressed)) == {"false"}
    health = page.locator("#health-charts")
    health.scroll_into_view_if_needed()
    health.locator("[aria-label=line] path").first.wait_for()
    assert "d_real solid, d_fake dotted" in health.inner_text()
    assert health.locator("[aria-label=line] path").count() == 4


def test_the_trade_off_points_up_and_to_the_right(visit: Open, report: Path):
    page = visit(report)
    page.locator("#tradeoff-chart").scroll_into_view_if_needed()
    page.locator("#tradeoff-chart circle").first.wait_for()
    place = EVERY.format(
        "#tradeoff-chart circle", "[element.cx.baseVal.value, element.cy.baseVal.value]"
    )
    bicubic, srgan, attending, _ = page.evaluate(place)
    # More PSNR is right; less LPIPS is up.
    assert bicubic[0] < srgan[0] < attending[0]
    assert bicubic[1] > srgan[1] > attending[1]
    assert page.locator("#tradeoff-front").inner_text() == "No other is better in both: A-SRGAN."
    page.locator("#tradeoff-y").select_option("ssim_y")
    assert "SSIM-Y (better ↑)" in page.locator("#tradeoff-chart").inner_text()


def test_the_front_holds_what_no_other_beats_in_both(
    visit: Open, make_results: MakeResults, make_run: Callable[..., Run], tmp_path: Path
):
    lpips = {"SRGAN": 0.1, "A-SRGAN": 0.2, "pool 8": 0.3}  # A-SRGAN has the highest PSNR-Y
    runs = [make_run(variant, seed) for variant in lpips for seed in (1, 2)]
    for run in runs:
        run.scores.values[:, 2] = lpips[run.model]
    write_report(find(make_results(runs), seed=1), tmp_path, examples=[])
    page = visit(tmp_path / "report.html")
    page.locator("#tradeoff-chart").scroll_into_view_if_needed()
    page.locator("#tradeoff-chart circle").first.wait_for()
    front = page.locator("#tradeoff-front")
    assert front.inner_text() == "No other is better in both: SRGAN, A-SRGAN."
    page.get_by_role("button", name="A-SRGAN").first.click()
    assert front.inner_text().startswith("No other is better in both: SRGAN")
    assert "A-SRGAN" not in front.inner_text()


def test_the_divider_uncovers_one_of_two_pictures(visit: Open, report: Path):
    page = visit(report)
    page.locator("#left").select_option("reference:bicubic")
    page.locator("#right").select_option("truth:HR")
    view = page.locator("#compare .view")
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    divider = page.get_by_label("Divider between")
    assert 75 <= int(divider.input_value()) <= 85
    divider.press("Home")
    whole = shot(view)
    divider.press("End")
    other = shot(view)
    assert np.abs(whole.astype(int) - other).mean() > 1
    divider.press("Home")
    for _ in range(50):
        divider.press("ArrowRight")
    half = shot(view)
    middle = half.shape[1] // 2
    inner = slice(20, -20)  # the corners are round
    np.testing.assert_array_equal(half[inner, 20 : middle - 40], other[inner, 20 : middle - 40])
    np.testing.assert_array_equal(half[inner, middle + 40 : -20], whole[inner, middle + 40 : -20])


def shot(locator: Any) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))


# Of each picture: its zoom, and the point of the crop in the middle of its window.
PLACES = """
() => [...document.querySelectorAll('.view')].map((view) => {
  const box = view.getBoundingClientRect();
  return [...view.querySelectorAll('img')].map((image) => {
    const { left, top, width } = image.getBoundingClientRect();
    const zoom = width / 96;
    const [x, y] = [box.left + box.width / 2 - left, box.top + box.height / 2 - top];
    return [zoom, x / zoom, y / zoom];
  });
}).flat()
"""


def test_all_crops_zoom_and_move_together(visit: Open, report: Path):
    page = visit(report)

    def centres() -> np.ndarray:
        return np.array(page.evaluate(PLACES))

    assert len(centres()) == 2 + 6  # the comparison's two; LR, bicubic, three variants, HR
    page.get_by_label("6×", exact=True).check()
    before = centres()
    np.testing.assert_allclose(before[:, 0], 6, rtol=0.01)
    tile = page.locator(".tile .view").nth(3)
    tile.scroll_into_view_if_needed()
    box = tile.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 24, box["y"] + 54, steps=3)
    page.mouse.up()
    tiles = centres()[2:]
    np.testing.assert_allclose(tiles - before[2:], [[0, 6, 1]] * 6, atol=0.1)
    tile.press("ArrowLeft")
    np.testing.assert_allclose(centres()[2:, 1] - tiles[:, 1], -16 / 6, atol=0.1)
    tile.press("-")
    np.testing.assert_allclose(centres()[:, 0], 5, rtol=0.01)
    page.get_by_label("Fit", exact=True).check()
    np.testing.assert_allclose(centres()[2:, 1:], 48, atol=0.2)
    # A click puts its point into the middle.
    page.get_by_label("4×", exact=True).check()
    before = centres()
    tile.click(position={"x": box["width"] / 2 + 20, "y": box["height"] / 2 - 8})
    np.testing.assert_allclose(centres()[2:] - before[2:], [[0, 5, -2]] * 6, atol=0.3)


def test_a_hidden_variant_leaves_the_gallery(visit: Open, report: Path):
    page = visit(report)
    assert texts(page, ".tile b") == ["LR", "bicubic", "SRGAN", "A-SRGAN", "pool 8", "HR"]
    page.locator("#curves").get_by_role("button", name="pool 8").click()
    assert texts(page, ".tile b") == ["LR", "bicubic", "SRGAN", "A-SRGAN", "HR"]


def test_crops_are_ordered_by_what_was_asked(visit: Open, report: Path, examples: list[Any]):
    page = visit(report)
    order = EVERY.format("#strip button", "Number(element.dataset.example)")

    def gain(number: int) -> float:
        scores = examples[number].crop_scores
        return scores["A-SRGAN"]["psnr_y_db"] - scores["SRGAN"]["psnr_y_db"]

    assert page.evaluate(order) == sorted(range(4), key=gain, reverse=True)
    page.locator("#order").select_option("worst")
    assert page.evaluate(order) == sorted(range(4), key=gain)
    page.locator("#order").select_option("changed")
    changes = [examples[number].change for number in page.evaluate(order)]
    assert changes == sorted(changes, reverse=True)
    first = examples[page.evaluate(order)[0]]
    assert f"{first.image[1]} ({first.image[0]})" in page.locator("#about").inner_text()
    told = f"{first.crop_scores['pool 8']['psnr_y_db']:.2f} dB"
    assert told in page.locator(".tile", has_text="pool 8").inner_text()


MAPS = """
() => [...document.querySelectorAll('.look')].map((look) => {
  const canvas = look.querySelector('canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const alphas = [...data].filter((_, i) => i % 4 === 3);
  return [look.dataset.model, look.dataset.place, canvas.height, canvas.width, alphas];
})
"""


def test_the_explorer_shows_where_a_point_looks(visit: Open, report: Path, examples: list[Any]):
    page = visit(report)
    page.locator("#attention").scroll_into_view_if_needed()
    page.locator(".look").first.wait_for()
    picker = page.locator("#picker")
    box = picker.bounding_box()
    picker.click(position={"x": 0.31 * box["width"], "y": 0.72 * box["height"]})

    def check(x: float, y: float) -> None:
        shown = page.evaluate(MAPS)
        attention = examples[0].attention
        layers = [(model, layer) for model, found in attention.items() for layer in found]
        assert [(name, place) for name, place, *_ in shown] == [
            (m, layer.place) for m, layer in layers
        ]
        for (_, _, height, width, alphas), (_, layer) in zip(shown, layers, strict=True):
            down, across = layer.breadth.shape
            expected = layer.maps[int(y * down), int(x * across)]
            # The page makes alpha of the value: 60 + 0.7 * value.
            values = (np.reshape(alphas, (height, width)) - 60) / 0.7
            np.testing.assert_allclose(values, expected, atol=1)

    down, across = max((f.breadth.shape for f in examples[0].attention["A-SRGAN"]), key=np.prod)
    row, column = int(0.72 * down), int(0.31 * across)
    status = page.locator("#picker-status")
    assert f"Point {column + 1} of {across} across, {row + 1} of {down} down" in status.inner_text()
    check((column + 0.5) / across, (row + 0.5) / down)
    picker.press("ArrowRight")
    picker.press("ArrowUp")
    check((column + 1.5) / across, (row - 0.5) / down)
    assert "γ 0.50, adds" in page.locator(".look").first.inner_text()


NARROW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(visit: Open, report: Path, width: int):
    assert visit(report, width=width).evaluate(NARROW)


# Of each element with text of its own: the contrast with what lies behind it, WCAG 2.2, 1.4.3.
CONTRASTS = """
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] > 200) return color;
    }
    return rgba('white');
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const has = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!has || !element.checkVisibility() || element.closest('script, .divider, svg')) continue;
    const [one, two] = [rgba(getComputedStyle(element).color), behind(element)].map(luminance);
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) found.push([element.outerHTML.slice(0, 80), ratio]);
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(visit: Open, report: Path, scheme: str):
    assert visit(report, scheme=scheme).evaluate(CONTRASTS) == []


def test_the_colours_can_be_chosen(visit: Open, report: Path):
    page = visit(report)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button = page.locator("#theme")
    button.click()
    assert (button.get_attribute("aria-label"), page.evaluate(ground)) == ("Colours: light", light)
    button.click()
    assert page.evaluate(ground) != light


def test_every_control_has_a_name(visit: Open, report: Path):
    page = visit(report)
    for line in page.locator("body").aria_snapshot().splitlines():
        control = re.match(
            r"\s*- (button|combobox|slider|radio|checkbox|link|application)\b(.*)", line
        )
        assert control is None or '"' in control[2], line


def test_the_keyboard_reaches_everything(visit: Open, report: Path):
    page = visit(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"theme", "sort", "divider", "left", "order", "difference", "view", "picker"} <= reached


def test_paper_shows_every_table(visit: Open, report: Path):
    page = visit(report)
    page.emulate_media(media="print")
    captions = EVERY.format(".panel caption", "element.checkVisibility()")
    assert page.evaluate(captions) == [True, True, True]
    assert not page.locator(".toolbar").first.is_visible()
    assert len(page.pdf()) > 50_000


def test_a_study_that_still_runs_says_so(
    visit: Open,
    make_results: MakeResults,
    make_run: Callable[..., Run],
    tmp_path: Path,
):
    runs = [make_run("SRGAN", seed) for seed in (1, 2)]
    runs += [
        make_run("SRGAN", 3, status="failed", scores=None, reason="`train/loss` is <no> number."),
        make_run("A-SRGAN", 1),
        make_run("A-SRGAN", 2, status="running", scores=None),
        make_run("A-SRGAN", 3, status="waiting", scores=None, hours=0.0),
    ]
    write_report(find(make_results(runs), seed=1), tmp_path, examples=[])
    page = visit(tmp_path / "report.html")
    notice = page.get_by_role("note").inner_text()
    assert "Of 6 runs, 3 finished, 1 failed, 1 running, 1 waiting." in notice
    assert "too few seeds to tell" in page.locator(".verdicts").inner_text()
    assert "`train/loss` is <no> number." in page.locator("#method").inner_text()
    assert page.locator("#pictures, #attention, #curves").count() == 0


def test_a_study_without_any_result_has_a_page(
    visit: Open, make_results: MakeResults, make_run: Callable[..., Run], tmp_path: Path
):
    runs = [make_run(v, 1, status="waiting", scores=None) for v in ("SRGAN", "A-SRGAN")]
    write_report(find(make_results(runs), seed=1), tmp_path, examples=[])
    page = visit(tmp_path / "report.html")
    assert page.locator(".lead").inner_text() == "No two runs can be compared yet."
    assert page.locator("#results").count() == 0


def test_names_are_text_whatever_they_are(
    visit: Open,
    make_results: MakeResults,
    full_runs: Callable[[], list[Run]],
    examples: list[Any],
    tmp_path: Path,
):
    evil = "</script><script>document.title='caught'</script><b>ü“"

    def rename(name: str) -> str:
        return evil if name == "A-SRGAN" else name

    runs = [replace(run, model=rename(run.model)) for run in full_runs()]
    renamed = [
        replace(
            example,
            crops={rename(name): crop for name, crop in example.crops.items()},
            crop_scores={rename(name): scores for name, scores in example.crop_scores.items()},
            attention={rename(name): layers for name, layers in example.attention.items()},
        )
        for example in examples
    ]
    results = make_results(runs, question=evil, name="<i>a & b</i>")
    write_report(find(results, seed=1), tmp_path, examples=renamed)
    page = visit(tmp_path / "report.html")
    assert page.get_by_role("heading", level=1).inner_text() == evil
    assert page.title() == f"{evil} – <i>a & b</i>"
    assert evil in texts(page, ".tile b")
    assert texts(page, ".legend button")[1] == evil
    page.locator("#curves-chart").scroll_into_view_if_needed()
    page.locator("#curves-chart [aria-label=line] path").first.wait_for()
    page.locator("#tradeoff-chart").scroll_into_view_if_needed()
    page.locator("#tradeoff-chart circle").first.wait_for()
    assert page.title() != "caught"
