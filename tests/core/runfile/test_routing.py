"""Schedules and regions as a run file writes them, and as an image's provenance writes them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import weft
from weft.core.provenance.run_file_writer import plugin_settings
from weft.core.runfile.read import read_run_file
from weft.core.runfile.strict_yaml import FileErrors

RUN = """version: 1
model: tiny
prompt: a red ball and a blue star on grass
subjects: [{phrase: red ball, box: [0, 0, 0.5, 1]}]
conditioners:
  - {type: mask_location, %s}
"""


def read(tmp_path: Path, settings: str) -> Any:
    path = tmp_path / "run.yaml"
    path.write_text(RUN % settings)
    return read_run_file(path)[0].conditioners[0]


@pytest.mark.parametrize(
    ("settings", "schedule", "region"),
    [
        ("schedule: 0.5", 0.5, None),
        ("schedule: [0, 0.5]", (0.0, 0.5), None),
        ("schedule: {0.5: 0, 0: 1}", {0.0: 1.0, 0.5: 0.0}, None),
        ("region: red ball", 1.0, weft.Region(subject="red ball")),
        ("region: rest", 1.0, weft.Region(rest=True)),
        (
            "region: {box: [0, 0, 1, 0.5], resize: bicubic}",
            1.0,
            weft.Region(box=(0, 0, 1, 0.5), resize="bicubic"),
        ),
    ],
)
def test_they_are_read_and_written(tmp_path, settings, schedule, region) -> None:
    plugin = read(tmp_path, settings)
    assert (plugin.schedule, plugin.region) == (schedule, region)
    written = plugin_settings(plugin, str)
    again = {name: value for name, value in written.items() if name != "type"}
    assert weft.MaskLocation(**again) == plugin


def test_a_masks_path_is_relative_to_the_file(tmp_path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "left.png")
    region = read(tmp_path, "region: {mask: left.png}").region
    assert region is not None
    assert region.mask == tmp_path / "left.png"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("schedule: [0.5, 0]", "6:37: expected an interval"),
        ("region: {mask: none.png}", "none.png"),
        ("region: {}", "one of 'subject', 'mask', 'box' and 'rest'"),
        ("region: {shape: round}", "shape"),
    ],
)
def test_errors_have_their_place(tmp_path, settings, message) -> None:
    with pytest.raises(FileErrors, match=message):
        read(tmp_path, settings)
