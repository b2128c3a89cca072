"""Labels on a sheet: they stay above and below their own images."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFont

from weft.core.report.entries import Entry, lines
from weft.core.report.sheet import TEXT, Row, _wrapped, sheet

FONT = ImageFont.load_default(TEXT)


@pytest.mark.parametrize(
    "text", ["sampler.scheduler: dpmpp_2m, seed 100", "W" * 60, "iiii " * 40, "a toy", "", "a\nb"]
)
def test_lines_fit_and_nothing_is_lost(text: str) -> None:
    lines = _wrapped(text, 192, FONT)
    assert all(FONT.getlength(line) <= 192 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_caption_does_not_run_into_the_next_picture() -> None:
    """Below the second image nothing is drawn when only the first one has a caption."""
    images = [Image.new("RGB", (192, 192), "black")] * 2
    with_text = sheet([Row("", images, ["sampler.scheduler: dpmpp_2m, seed 100", ""])])
    below = with_text.crop((12 + 192 + 12, 12 + 192, with_text.width, with_text.height))
    assert below.getcolors() == [(below.width * below.height, (255, 255, 255))]


def entries(seeds: int, values: int) -> list[Entry]:
    return [
        Entry(0, "a toy", seed, {"guidance.0.scale": value}, Image.Image)
        for value in range(values)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("seeds", "lengths", "labels", "caption"),
    [
        (4, [4, 4, 4], ["guidance.0.scale: 0", "guidance.0.scale: 1", "guidance.0.scale: 2"], "seed 1"),
        (1, [3], [""], "guidance.0.scale: 1"),
        (
            12,
            [10, 2] * 3,
            ["guidance.0.scale: 0", "", "guidance.0.scale: 1", "", "guidance.0.scale: 2", ""],
            "seed 1",
        ),
    ],
)
def test_a_line_is_a_variant_with_its_seeds(
    seeds: int, lengths: list[int], labels: list[str], caption: str
) -> None:
    rows = lines(entries(seeds, 3))
    assert [len(row.entries) for row in rows] == lengths
    assert [row.label for row in rows] == labels
    assert rows[0].captions[1] == caption
