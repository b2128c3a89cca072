"""Files that are too large, endless or wrong in every line end soon, with few errors."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from weft import UserError
from weft.core.runfile.read import read_run_file
from weft.core.runfile.strict_yaml import MAX_ERRORS, FileErrors, parse_yaml

RUN = "version: 1\nmodel: tiny\nscenes: {name}\n"


def run_file(folder: Path, name: str = "scenes.jsonl") -> Path:
    (folder / "run.yaml").write_text(RUN.format(name=name))
    return folder / "run.yaml"


@pytest.mark.parametrize(
    "line", ["{", '{"prompt": 3}', '{"promt": "a toy"}', "3", '{"prompt": "a", "prompt": "b"}']
)
def test_a_list_that_is_wrong_in_every_line_stops_soon(line: str, tmp_path: Path) -> None:
    (tmp_path / "scenes.jsonl").write_text(f"{line}\n" * 300_000)
    before = time.process_time()
    with pytest.raises(FileErrors) as refused:
        read_run_file(run_file(tmp_path))
    assert time.process_time() - before < 5
    assert 1 <= len(refused.value.errors) <= MAX_ERRORS


def test_a_million_scenes_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "scenes.jsonl").write_text('{"prompt": "a toy"}\n' * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="1 to 10,000 scenes, found more"):
            read_run_file(run_file(tmp_path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 150_000_000


@pytest.mark.parametrize(
    "text", ["- &a x\n" * 50_000, "- !a x\n" * 50_000, "a: *b\n" * 50_000, "3: x\n" * 50_000]
)
def test_a_file_that_is_wrong_in_every_line_stops_soon(text: str) -> None:
    before = time.process_time()
    with pytest.raises(FileErrors) as refused:
        parse_yaml(text)
    assert time.process_time() - before < 2
    assert len(refused.value.errors) <= MAX_ERRORS


def test_a_text_has_the_limit_of_a_file() -> None:
    with pytest.raises(FileErrors, match="at most 1,000,000 characters"):
        parse_yaml("a: " + "x" * 1_000_000, "run file in a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("name", ["scenes.jsonl", "scenes.yaml", "run.yaml"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    if name != "run.yaml":
        run_file(tmp_path, name)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="expected a file that can be read, found a pipe"):
        read_run_file(tmp_path / "run.yaml")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    (tmp_path / "scenes.jsonl").write_text('{"prompt": "a toy"}\n')
    names = ("model.diffusion_model.a", "first_stage_model.a", "cond_stage_model.transformer.a")
    save_file({name: np.zeros(1, np.float32) for name in names}, tmp_path / "model.safetensors")
    run = tmp_path / "here" / "run.yaml"
    run.write_text("version: 1\nmodel: ~/model.safetensors\nscenes: ~/scenes.jsonl\n")
    (read,) = read_run_file(run)
    assert read.model == str(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("owner/Name_V5.1", True),
        ("owner/name", True),
        ("Lykon/dreamshaper-8", True),
        ("SG161222/Realistic_Vision_V6.0_B1_noVAE", True),
        ("models/thing.safetensors", False),
        ("models/thing.ckpt", False),
        ("./name", False),
        ("../name", False),
        ("a/b/c", False),
        ("owner/na me", False),
        ("owner/..", False),
    ],
)
def test_a_name_of_the_hub_may_have_dots(name: str, fine: bool, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"version: 1\nmodel: {name}\nprompt: a toy\n")
    if fine:
        assert read_run_file(tmp_path / "run.yaml")[0].model == name
    else:
        with pytest.raises(FileErrors, match="expected a model"):
            read_run_file(tmp_path / "run.yaml")
