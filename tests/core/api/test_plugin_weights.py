"""Where a plugin's weights may lie: a file, a folder, the hub's cache, the model's own, also beside a single file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import weft
from weft.core.api.plugin_weights import trained_networks
from weft.core.checkpoints.files import model_digests
from weft.testing import random_pipeline


def write(path: Path, value: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.full((1, 1), float(value))}, path)
    return path


def read(weights: Path, plugin: str = "mine") -> nn.Module:
    def build(tensors, place):
        layer = nn.Linear(1, 1, bias=False)
        layer.weight.data = tensors["weight"]
        return layer

    return trained_networks(plugin, random_pipeline().view((32, 32)), weights, build)


def test_a_file_or_a_folder(tmp_path) -> None:
    one = write(tmp_path / "a" / "one.safetensors", 1)
    assert read(one).weight == 1
    assert read(one.parent).weight == 1
    write(tmp_path / "a" / "weft" / "mine.safetensors", 2)
    assert read(one.parent).weight == 2
    write(tmp_path / "a" / "mine.safetensors", 3)
    assert read(one.parent).weight == 3
    with pytest.raises(weft.UserError, match="folder"):
        read(one.parent, "another")


def test_the_hubs_cache(tmp_path) -> None:
    cache = tmp_path / "models--someone--something"
    write(cache / "snapshots" / "abc123" / "mine.safetensors", 1)
    write(cache / "snapshots" / "def456" / "mine.safetensors", 2)
    with pytest.raises(weft.UserError, match="a snapshot that 'refs/main' names"):
        read(cache)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("def456\n")
    assert read(cache).weight == 2
    (cache / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(weft.UserError, match="a snapshot that 'refs/main' names"):
        read(cache)


def test_two_instances_of_one_plugin_have_files_of_their_own(tmp_path) -> None:
    first, second = (write(tmp_path / f"{n}.safetensors", n) for n in (1, 2))
    assert [read(first).weight.item(), read(second).weight.item()] == [1, 2]
    assert read(first) is read(first)
    assert read(first) is not read(second)


def test_beside_a_single_file(tmp_path) -> None:
    """In a folder of its name; what lies there is among the model's digests."""
    tiny = weft.load("tiny", device="cpu")
    file = tmp_path / "dream.safetensors"
    write(tmp_path / "dream" / "weft" / "mine.safetensors", 5)
    view = weft.Pipeline(
        "dream", tiny.text, tiny.unet, tiny.vae, tiny.scheduler, own_folder=file.with_suffix("")
    ).view((32, 32))
    assert view.weights("mine")["weight"] == 5
    file.write_bytes(b"")
    assert set(model_digests(file)) == {"dream.safetensors", "weft/mine.safetensors"}
