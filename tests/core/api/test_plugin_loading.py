"""A plugin from a file that is named by its path: allowed first, digested, and drawn again from its image."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import weft
from weft.cli.app import app
from weft.core.api.registry import registry
from weft.core.provenance.write import read_provenance
from weft.testing import random_model

SOURCE = """
    from weft.plugin import Conditioner, Fixed, hookimpl, record

    @record
    class Dusk(Conditioner):
        \"""Attends to another prompt too.\"""

        name = "dusk"
        words: str = "at night"

        def prepare(self, scene, model):
            from weft.plugin import ContextTokens

            states = model.text.encode(model.text.tokens(self.words))
            return Fixed((ContextTokens(states),), (ContextTokens(states),))

    @hookimpl
    def weft_plugins():
        return [Dusk]
"""
RUN = """
version: 1
model: model
prompt: a toy
conditioners: [{type: plugins/dusk.py, words: two boats}]
sampler: {steps: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "dusk.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "run.yaml").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    registry.cache_clear()
    yield tmp_path
    registry.cache_clear()


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_run_files_path_runs_only_when_the_command_allows_it(folder: Path) -> None:
    (folder / "plugins" / "dusk.py").write_text("raise SystemExit(0)")
    done = run("validate", "run.yaml")
    assert done.exit_code == 2
    assert "run.yaml:5:23" in done.output
    assert "read it, then allow it with --plugin plugins/dusk.py" in done.output
    done = run("validate", "run.yaml", "--plugin", "plugins/dusk.py")
    assert done.exit_code == 2
    assert "plugin 'dusk', file 'plugins/dusk.py': SystemExit: 0" in done.output


def test_it_is_drawn_recorded_and_drawn_again(folder: Path) -> None:
    random_model(folder / "model")
    allow = ("--plugin", "plugins/dusk.py")
    done = run("generate", "run.yaml", *allow)
    assert done.exit_code == 0, done.output
    (image,) = (folder / "outputs").glob("0000-*.png")
    kept = read_provenance(image)
    assert (
        '"type": "../plugins/dusk.py", "strength": 1.0, "schedule": 1.0, "region": null, "words"'
        in kept.run_file
    )
    digest = kept.provenance.references["../plugins/dusk.py"]
    assert kept.provenance.plugins["dusk"] == f"file dusk.py, SHA-256 {digest}"
    again = run("repro", image)
    assert again.exit_code == 0, again.output
    registry.cache_clear()
    assert "allow it with --plugin plugins/dusk.py" in run("repro", image).output
    assert run("repro", image, *allow).exit_code == 0
    source = (folder / "plugins" / "dusk.py").read_text()
    (folder / "plugins" / "dusk.py").write_text(source.replace("at night", "at noon"))
    assert "reference '../plugins/dusk.py': expected SHA-256" in run("repro", image, *allow).output


def test_it_is_named_by_its_name_too_and_a_changed_file_is_another_item(folder: Path) -> None:
    (folder / "run.yaml").write_text(RUN.replace("plugins/dusk.py", "dusk"))
    from weft.core.jobs.job import plan
    from weft.core.runfile.read import read_run_file

    random_model(folder / "model")
    file = folder / "plugins" / "dusk.py"
    registry().add_file(file)
    (before,) = plan(read_run_file(folder / "run.yaml"))
    file.write_text(file.read_text().replace("at night", "at noon"))
    registry().add_file(file)
    registry().add_file(file)
    (after,) = plan(read_run_file(folder / "run.yaml"))
    assert before.id != after.id
    assert [vars(one)["words"] for item in (before, after) for one in item.run.conditioners] == [
        "two boats"
    ] * 2


def test_python_names_it_by_its_path(folder: Path) -> None:
    pipe = weft.load(random_model(folder / "model"), device="cpu")
    plain, dusk = (
        pipe.generate(weft.Scene("a toy"), one, steps=1).latents for one in ([], ["plugins/dusk.py"])
    )
    assert not plain.equal(dusk)


def test_it_is_copied_and_reaches_a_process_that_has_not_run_it(folder: Path) -> None:
    (cls,) = registry().add_file(Path("plugins/dusk.py")).plugins
    plugin = cls(words="a boat", strength=0.5)
    assert copy.deepcopy(plugin) == plugin
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    done = subprocess.run([sys.executable, "-P", "-c", code], input=pickle.dumps(plugin), capture_output=True)
    assert done.stdout.decode().strip() == repr(plugin), done.stderr
    sent = pickle.dumps(plugin)
    (folder / "plugins" / "dusk.py").write_text("x = 1\n" + textwrap.dedent(SOURCE))
    with pytest.raises(weft.UserError, match="a file that has changed"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "a file with one conditioner in it, found 'plugins/dusk.py', which has none"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        (textwrap.dedent(SOURCE).replace('"dusk"', '"grounding"'), "claimed by weft and by file"),
        (textwrap.dedent(SOURCE) + "class = 1", "SyntaxError"),
    ],
)
def test_a_file_that_is_wrong_is_one_error(folder: Path, source: str, said: str) -> None:
    (folder / "plugins" / "dusk.py").write_text(source)
    done = run("validate", "run.yaml", "--plugin", "plugins/dusk.py")
    assert done.exit_code == 2
    assert said in done.output


def test_a_file_that_is_not_there_is_one_error(folder: Path) -> None:
    (folder / "plugins" / "dusk.py").unlink()
    assert "found no such file: 'plugins/dusk.py'" in run("validate", "run.yaml").output
    assert "No such file or directory" in run("validate", "run.yaml", "--plugin", "plugins/dusk.py").output


def test_the_schema_takes_it(folder: Path) -> None:
    import jsonschema

    from weft.core.runfile.json_schema import run_file_schema

    schema = run_file_schema()
    data = {
        "version": 1,
        "model": "tiny",
        "prompt": "a toy",
        "conditioners": [{"type": "./dusk.py", "words": "a"}],
    }
    jsonschema.validate(data, schema)
    jsonschema.validate({**data, "conditioners": ["./dusk.py"]}, schema)
    for wrong in ("./dusk.txt", {"type": "dusk"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "conditioners": [wrong]}, schema)
    assert json.dumps(schema)
