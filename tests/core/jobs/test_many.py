# ruff: noqa: E501
"""Scenes files, overrides, migration and sweeps over scenes: what many images are described with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from weft import ClassifierFree
from weft.core.runfile.read import read_run_file
from weft.core.runfile.run import Run
from weft.core.runfile.strict_yaml import FileErrors

RUN = """\
version: 1
model: tiny
scenes: scenes.jsonl
guidance: [{type: classifier_free, scale: 5}]
sampler: {steps: 20}
"""
SCENES = [
    {"prompt": "a toy and a red star", "subjects": [{"phrase": "toy", "images": ["toy.png"]}]},
    {"prompt": "a red star", "subjects": [{"phrase": "red star", "box": [0, 0, 1, 1]}], "negative_prompt": "x"},
    "a blue fish \U0001f41f",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "toy.png")
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def lines(folder: Path, scenes: list[Any], name: str = "scenes.jsonl") -> None:
    (folder / name).write_text("\n".join(json.dumps(scene) for scene in scenes) + "\n")


def read(folder: Path, *overrides: str) -> list[Run]:
    return read_run_file(folder / "run.yaml", overrides=overrides)


def mistakes(call: Callable[[], Any]) -> list[str]:
    with pytest.raises(FileErrors) as caught:
        call()
    return [str(one).replace(f"{Path(one.file).parent}/", "") for one in caught.value.errors]


@pytest.mark.parametrize("kind", ["jsonl", "yaml", "in the run file"])
def test_every_scene_becomes_a_run(folder: Path, kind: str) -> None:
    if kind == "jsonl":
        lines(folder, SCENES)
    elif kind == "yaml":
        (folder / "run.yaml").write_text(RUN.replace("jsonl", "yaml"))
        (folder / "scenes.yaml").write_text(json.dumps(SCENES, indent=1))
    else:
        (folder / "run.yaml").write_text(RUN.replace("scenes.jsonl", json.dumps(SCENES)))
    runs = read(folder)
    assert [run.scene.prompt for run in runs] == [
        "a toy and a red star", "a red star", "a blue fish \U0001f41f"
    ]  # fmt: skip
    assert [run.number for run in runs] == [0, 1, 2]
    assert runs[0].scene.subjects[0].images == ((folder / "toy.png").resolve(),)
    assert [run.guidance for run in runs] == [
        (ClassifierFree(5.0, negative_prompt=text),) for text in ("", "x", "")
    ]


def test_pictures_of_a_scenes_file_are_beside_it(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "toy.png").rename(folder / "set" / "toy.png")
    lines(folder, SCENES, "set/scenes.jsonl")
    (folder / "run.yaml").write_text(RUN.replace("scenes.jsonl", "set/scenes.jsonl"))
    assert read(folder)[0].scene.subjects[0].images == ((folder / "set" / "toy.png").resolve(),)


def test_a_sweep_goes_over_every_scene(folder: Path) -> None:
    lines(folder, SCENES)
    (folder / "run.yaml").write_text(RUN + "sweep: {sampler.steps: [1, 2]}\n")
    assert [(run.number, run.sweep["sampler.steps"]) for run in read(folder)] == [
        (number, steps) for number in range(3) for steps in (1, 2)
    ]


WRONG_SCENES = [
    ('{"prompt": "a", "prompt": "b"}', "2:1: expected each name once, found 'prompt' again"),
    ('{"prompt": "a"', "2:15: expected valid JSON, found Expecting ',' delimiter"),
    ("{prompt: a}", "2:2: expected valid JSON"),
    ('{"prompt": NaN}', "2:12: expected a finite number, found nan"),
    ('{"prompt": 1e999}', "2:1: expected a finite number, found inf"),
    ('{"prompt": "\\ud800"}', "2:1: expected text, found half a character"),
    ("[" * 40 + "]" * 40, "2:1: expected at most 32 levels, found more"),
    ("[" * 100_000, "2:1: expected at most 32 levels, found more"),
    ("9" * 5000, "2:1: expected numbers of at most 20 digits"),
    ("3", "2:1: expected a scene, such as {prompt: a red star}, found 3"),
    ('{"promt": "a"}', "2:2: expected one of prompt, negative_prompt, subjects, maps, source, edit_mask, found 'promt'."),
    ('{"prompt": "a", "seeds": [1]}', "2:17: expected one of prompt"),
    ('{"subjects": []}', "2:1: expected 'prompt', found no such setting"),
    ('{"prompt": "a toy", "subjects": [{"phrase": "toi"}]}', "2:45: expected words of the prompt, found no such words in 'a toy'. Did you mean 'toy'?"),
    ('{"prompt": "a toy", "subjects": [{"phrase": "toy", "images": ["tyo.png"]}]}', "2:63: expected an image, found no such file: 'tyo.png'. Did you mean 'toy.png'?"),
    ('{"prompt": "a toy", "subjects": [{"phrase": "toy", "box": [0, 0, 2, 1]}]}', "2:66: expected at most 1, found 2"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), WRONG_SCENES, ids=[message[:50] for _, message in WRONG_SCENES])
def test_a_wrong_scene_is_told_with_its_line(folder: Path, line: str, message: str) -> None:
    (folder / "scenes.jsonl").write_text(f'{{"prompt": "a toy"}}\n{line}\n\n{{"prompt": "a red star"}}\n')
    told = mistakes(lambda: read(folder))
    assert any(one.startswith(f"scenes.jsonl:{message}") for one in told), told


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scenes.jsonl", "scens.jsonl", "scens.jsonl: expected a file that can be read, found No such file or directory. Did you mean 'scenes.jsonl'?"),
        ("scenes.jsonl", "scenes.txt", "run.yaml:3:9: expected a .jsonl or .yaml file of scenes, found 'scenes.txt'"),
        ("scenes.jsonl", "3", "run.yaml:3:9: expected a list of scenes, or a file of them, found 3"),
        ("scenes.jsonl", "[]", "run.yaml:3:9: expected 1 to 10,000 scenes, found 0"),
        ("scenes.jsonl", "[a toy, 3]", "run.yaml:3:17: expected a scene, such as {prompt: a red star}, found 3"),
        ("scenes.jsonl", "[{prompt: a toy, box: 1}]", "run.yaml:3:26: expected one of prompt"),
        ("scenes.jsonl", "scenes.jsonl\nprompt: a toy", "run.yaml:4:1: expected it in every scene, found it beside 'scenes'"),
        ("scale: 5", "scale: x", "run.yaml:4:43: expected a number, found 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_run_file_of_scenes(folder: Path, old: str, new: str, message: str) -> None:
    lines(folder, SCENES)
    (folder / "run.yaml").write_text(RUN.replace(old, new))
    told = mistakes(lambda: read(folder))
    assert len(told) == 1, told
    assert told[0].startswith(message)


def test_overrides_are_put_over_the_file(folder: Path) -> None:
    lines(folder, SCENES)
    (run, *_) = read(
        folder, "guidance.0.scale=2", "sampler.steps=7", "sampler.steps=8", "seeds={count: 3, first: 5}"
    )
    assert run.guidance == (ClassifierFree(2.0),)
    assert run.sampler.steps == 8
    assert run.seeds == (5, 6, 7)
    (run,) = read(folder, "scenes=[a red star]", "guidance=[composable]", "conditioners=[]")
    assert run.scene.prompt == "a red star"
    assert [one.name for one in run.guidance] == ["composable"]


def test_an_override_ends_the_sweep_of_its_setting(folder: Path) -> None:
    (folder / "run.yaml").write_text(
        "{version: 1, model: tiny, prompt: a toy, sweep: {sampler.steps: [1, 2], guidance.0.scale: [3, 4]}}"
    )
    assert [run.sampler.steps for run in read(folder, "sampler.steps=9")] == [9, 9]
    assert [run.sampler.steps for run in read(folder, "sweep.sampler.steps=[5]")] == [5, 5]
    assert len(read(folder, "sweep={}")) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.steps", "--set sampler.steps: expected path=value, found 'sampler.steps'. As in --set sampler.steps=20"),
        ("=3", "--set =3: expected path=value"),
        ("sampler.steps=", "--set sampler.steps=: expected a whole number, found nothing"),
        ("sampler.steps=two", "--set sampler.steps=two: expected a whole number, found 'two'"),
        ("sampler.stpes=2", "--set sampler.stpes=2: expected one of scheduler, steps, width, height, batch_size, scheduler_options, strength, until, found 'stpes'. Did you mean 'steps'?"),
        ("sampler={steps: 0}", "--set sampler={steps: 0}: expected at least 1, found 0"),
        ("guidance.3.scale=1", "--set guidance.3.scale: expected the path of a setting, found 'guidance.3.scale', which leads nowhere"),
        ("guidance=[cfg]", "--set guidance=[cfg]: expected an installed guidance ("),
        ("version=1", "--set version: expected a setting that can be overridden, found 'version'"),
        ("prompt=a: b", "--set prompt=a: b: expected text, found a mapping"),
        ("prompt='a", "--set prompt='a: expected valid YAML, found"),
        ("source=none.png", "--set source=none.png: expected an image, found no such file: 'none.png'"),
        ("model=tinny", "--set model=tinny: expected a model (sd15, tiny), a folder or a .safetensors file, found 'tinny'. Did you mean 'tiny'?"),
        ("x=&a 1", "--set x=&a 1: expected no anchors"),
        ("sweep.sampler.steps=[1, x]", "--set sweep.sampler.steps=[1, x]: expected a whole number, found 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(folder: Path, override: str, message: str) -> None:
    (folder / "run.yaml").write_text("{version: 1, model: tiny, prompt: a toy}")
    with pytest.raises(FileErrors) as caught:
        read(folder, override)
    told = [str(one) for one in caught.value.errors]
    assert len(told) == 1, told
    assert told[0].startswith(message)


def test_many_scenes_are_read_fast(folder: Path) -> None:
    """In a process of its own, in which no types are checked: the checks of the tests take twenty times as long."""
    lines(folder, [f"a red star number {number}" for number in range(1000)])
    code = (
        "import sys, time\n"
        "from weft.core.runfile.read import read_run_file\n"
        "before = time.process_time()\n"
        "print(len(read_run_file(sys.argv[1])), time.process_time() - before)\n"
    )
    command = [sys.executable, "-P", "-c", code, str(folder / "run.yaml")]
    count, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert count == "1000"
    assert float(seconds) < 5
