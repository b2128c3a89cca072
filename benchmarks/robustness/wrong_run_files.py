"""Are mistakes that people make in run files told with file, line and column, and with what would be right?

Every case is one mistake in a good file. In the text that is put in, a broken bar stands where the message must point.

    python benchmarks/robustness/wrong_run_files.py     # seconds, no torch
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from robustness_helpers.figures import keep

from weft.core.runfile.read import read_run_file
from weft.core.runfile.strict_yaml import FileErrors

GOOD = """\
version: 1
model: tiny
prompt: a toy and a red star on grass
subjects:
  - {phrase: toy, images: [toy.png], box: [0.05, 0.4, 0.45, 0.9]}
  - {phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}
guidance: [{type: classifier_free, scale: 5}, attend_and_excite]
sampler: {scheduler: euler, steps: 20, width: 64}
seeds: [3, 4]
"""
MARK = "\u00a6"

CASES = [
    # the file as a whole
    (GOOD, "¦"),
    (GOOD, "¦just text"),
    (GOOD, "¦- a\n- b\n"),
    (GOOD, "¦3"),
    (GOOD, "¦null"),
    (GOOD, "a: 1\n¦---\nb: 2\n"),
    ("version: 1\n", "¦"),
    ("version: 1", "version: ¦2"),
    ("version: 1", "version: ¦0"),
    ("version: 1", "version: ¦one"),
    ("version: 1", 'version: ¦"1"'),
    ("version: 1", "version: ¦1.5"),
    ("version: 1", "version: ¦[1]"),
    ("version: 1", "version:¦"),
    ("version: 1", "version: 1\n¦version: 1"),
    ("version: 1", "¦verson: 1"),
    ("version: 1", "version: 1\n¦author: me"),
    # YAML that is refused or broken
    ("model: tiny", "model: ¦&m tiny"),
    ("model: tiny", "model: ¦*m"),
    ("model: tiny", "model: ¦!!str tiny"),
    ("model: tiny", "¦<<: {model: tiny}\nmodel: tiny"),
    ("model: tiny", "model: ¦!!python/object/apply:os.system [ls]"),
    ("seeds: [3, 4]", "seeds: ¦.nan"),
    ("seeds: [3, 4]", "seeds: [¦.inf]"),
    ("model: tiny", "¦\tmodel: tiny"),
    ("[toy.png], box: [0.05, 0.4, 0.45, 0.9]}", "[toy.png, box: [0.05, 0.4, 0.45, 0.9]¦}"),
    ("prompt: a toy", "prompt: a¦: toy"),
    ("seeds: [3, 4]\n", 'seeds: "[3, 4]\n¦'),
    ("model: tiny", "model: ¦@tiny"),
    ("model: tiny", "model: ¦%tiny"),
    ("model: tiny", "model: ¦`tiny`"),
    ("model: tiny", "? ¦[a]\n: b\nmodel: tiny"),
    ("seeds: [3, 4]", "seeds: [3, ¦" + "9" * 30 + "]"),
    ("seeds: [3, 4]", "¦3: 4"),
    ("seeds: [3, 4]", "¦true: 4"),
    ("seeds: [3, 4]", "¦null: 4"),
    ("seeds: [3, 4]", "seeds: " + "[" * 31 + "¦[" + "]" * 32),
    ("seeds: [3, 4]", 'seeds: "\\¦q"'),
    ("seeds: [3, 4]", "seeds: [¦1e999]"),
    # model and prompt
    ("version: 1\nmodel: tiny\n", "¦version: 1\n"),
    ("model: tiny", "model: ¦tinny"),
    ("model: tiny", "model:¦"),
    ("model: tiny", "model: ¦12"),
    ("model: tiny", "model: ¦[tiny]"),
    ("model: tiny", "model: ¦{name: tiny}"),
    ("model: tiny", "model: ¦nowhere/at/all"),
    ("model: tiny", "model: ¦weights.ckpt"),
    ("model: tiny", "¦modle: tiny"),
    ("model: tiny", 'model: ¦""'),
    ("model: tiny", "model: ¦true"),
    ("prompt: a toy and a red star on grass", "prompt:¦"),
    ("prompt: a toy and a red star on grass", "prompt: ¦7"),
    ("prompt:", "¦promt:"),
    ("prompt: a toy and a red star on grass", "prompt: ¦[a toy and a red star]"),
    ("seeds: [3, 4]", "negative_prompt: ¦7"),
    ("seeds: [3, 4]", "¦negative: x"),
    # subjects
    ("phrase: red star", "phrase: ¦red starr"),
    ("phrase: red star", "phrase: ¦blue star"),
    ("phrase: red star", "phrase: ¦a"),
    ("phrase: red star", "phrase: ¦3"),
    ("phrase: red star", "phrase: a, occurrence: ¦3"),
    ("phrase: red star", "phrase: a, occurrence: ¦0"),
    ("phrase: red star", "phrase: a, occurrence: ¦first"),
    ("phrase: red star", "phrase: a, occurrence: ¦1.5"),
    ("phrase: red star", 'phrase: ¦""'),
    ("phrase: red star", "¦text: red star"),
    ("{phrase: red star, box", "¦{box"),
    ("{phrase: red star, box", "{phrase: red star, ¦bbox"),
    ("{phrase: red star, box", "{phrase: red star, ¦boxes"),
    ("{phrase: red star, box", "{phrase: red star, ¦Box"),
    ("{phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}", "¦red star"),
    ("{phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}", "¦[red star]"),
    ("{phrase: red star, box: [0.55, 0.4, 0.95, 0.9]}", "¦null"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦[0.55, 0.4, 0.95]"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦[0.55, 0.4, 0.95, 0.9, 1]"),
    ("[0.55, 0.4, 0.95, 0.9]", "[0.55, 0.4, ¦1.5, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "[¦-0.1, 0.4, 0.95, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "[¦55%, 0.4, 0.95, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦[0.95, 0.4, 0.55, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦[0.55, 0.9, 0.95, 0.4]"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦[0.5, 0.4, 0.5, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦left"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦0.5"),
    ("[0.55, 0.4, 0.95, 0.9]", "¦{left: 0.5}"),
    ("[0.55, 0.4, 0.95, 0.9]", "[¦null, 0.4, 0.95, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "[¦true, 0.4, 0.95, 0.9]"),
    ("[0.55, 0.4, 0.95, 0.9]", "[0.55, 0.4, 0.95, ¦'0.9']"),
    ("[0.55, 0.4, 0.95, 0.9]", "[0.55, 0.4, 0.95, ¦[0.9]]"),
    ("[toy.png]", "[¦tyo.png]"),
    ("[toy.png]", "¦tyo.png"),
    ("[toy.png]", "[¦run.yaml]"),
    ("model: tiny", "model: ¦sd15"),
    ("model: tiny", "model: ¦toy.png"),
    ("model: tiny", "model: tiny\ndtype: ¦fp16"),
    ("model: tiny", "model: tiny\n¦torch_dtype: float16"),
    ("model: tiny", "model: tiny\nvae: ¦nowhere"),
    ("model: tiny", "model: tiny\ndevice: ¦the fast one"),
    ("[toy.png]", "[¦7]"),
    ("[toy.png]", "[¦null]"),
    ("[toy.png]", "[¦nowhere/toy.png]"),
    ("[toy.png]", "[toy.png, ¦.]"),
    ("images: [toy.png]", "¦image: toy.png"),
    ("images: [toy.png]", "mask: ¦nowhere.png"),
    ("images: [toy.png]", "style: ¦nowhere.png"),
    ("images: [toy.png]", "mask: ¦[toy.png]"),
    ("subjects:", "subjects: ¦3\nmaps:"),
    ("subjects:", "¦subject:"),
    # maps, sources
    ("seeds: [3, 4]", "source: ¦nowhere.png"),
    ("seeds: [3, 4]", "source: ¦3"),
    ("seeds: [3, 4]", "edit_mask: ¦toy.pgn"),
    ("seeds: [3, 4]", "maps: ¦[toy.png]"),
    ("seeds: [3, 4]", "maps: {edges: ¦nowhere.png}"),
    ("seeds: [3, 4]", "maps: {edges: ¦3}"),
    # plugins
    ("classifier_free", "¦classifer_free"),
    ("classifier_free", "¦CFG"),
    ("{type: classifier_free", "¦{type: 7"),
    ("{type: classifier_free, scale: 5}", "¦{scale: 5}"),
    ("{type: classifier_free, scale: 5}", "¦7"),
    ("{type: classifier_free, scale: 5}", "¦[classifier_free]"),
    ("{type: classifier_free, scale: 5}", "¦{classifier_free: {scale: 5}}"),
    ("scale: 5", "scale: ¦five"),
    ("scale: 5", "scale: ¦'5'"),
    ("scale: 5", "scale: ¦[5]"),
    ("scale: 5", "scale:¦"),
    ("scale: 5", "¦sclae: 5"),
    ("scale: 5", "¦guidance_scale: 5"),
    ("scale: 5", "rescale: ¦2"),
    ("scale: 5", "rescale: ¦-1"),
    ("scale: 5", "interval: ¦[0.9, 0.1]"),
    ("scale: 5", "interval: ¦[0.9]"),
    ("scale: 5", "interval: [0, ¦2]"),
    ("scale: 5", "negative_prompt: ¦7"),
    ("attend_and_excite]", "¦attend_and_exite]"),
    ("attend_and_excite]", "{type: attend_and_excite, ¦step: 3}]"),
    ("attend_and_excite]", "¦null]"),
    ("guidance: [", "guidance: ¦classifier_free\nconditioners: ["),
    ("seeds: [3, 4]", "conditioners: [¦classifier_free]"),
    ("seeds: [3, 4]", "conditioners: ¦all"),
    ("seeds: [3, 4]", "¦conditioner: []"),
    ("seeds: [3, 4]", "conditioners: [¦no_such_thing]"),
    # sampler
    ("euler", "¦eular"),
    ("euler", "¦DDIM"),
    ("euler", "¦3"),
    ("euler", "¦[euler]"),
    ("steps: 20", "steps: ¦0"),
    ("steps: 20", "steps: ¦-3"),
    ("steps: 20", "steps: ¦20.5"),
    ("steps: 20", "steps: ¦many"),
    ("steps: 20", "steps: ¦yes"),
    ("steps: 20", "steps: ¦true"),
    ("steps: 20", "steps: ¦'20'"),
    ("steps: 20", "steps: ¦100000"),
    ("steps: 20", "¦step: 20"),
    ("steps: 20", "¦num_inference_steps: 20"),
    ("width: 64", "width: ¦99999"),
    ("width: 64", "width: ¦1"),
    ("width: 64", "width: ¦64px"),
    ("width: 64", "¦size: 64"),
    ("width: 64", "batch_size: ¦0"),
    ("width: 64", "¦batch: 4"),
    ("sampler: {scheduler: euler, steps: 20, width: 64}", "sampler: ¦euler"),
    ("sampler: {scheduler: euler, steps: 20, width: 64}", "¦steps: 20"),
    ("sampler: {", "¦samplr: {"),
    ("seeds: [3, 4]", "reproducibility: ¦always"),
    ("seeds: [3, 4]", "reproducibility: ¦true"),
    # seeds, metrics and sweeps
    ("seeds: [3, 4]", "seeds: ¦3"),
    ("seeds: [3, 4]", "seeds: ¦[]"),
    ("seeds: [3, 4]", "seeds: [3, ¦-4]"),
    ("seeds: [3, 4]", "seeds: ¦[3, 3]"),
    ("seeds: [3, 4]", "seeds: [3, ¦x]"),
    ("seeds: [3, 4]", "seeds: [¦3.5]"),
    ("seeds: [3, 4]", "seeds: {count: ¦0}"),
    ("seeds: [3, 4]", "seeds: {count: 2, ¦from: 1}"),
    ("seeds: [3, 4]", "¦seed: 3"),
    ("seeds: [3, 4]", "seeds: ¦all"),
    ("seeds: [3, 4]", "metrics: [¦objets]"),
    ("seeds: [3, 4]", "metrics: ¦objects"),
    ("seeds: [3, 4]", "sweep: ¦3"),
    ("seeds: [3, 4]", "sweep: {¦guidance.9.scale: [1]}"),
    ("seeds: [3, 4]", "sweep: {¦seeds: [[1]]}"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scale: ¦1}"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scale: ¦[]}"),
    ("seeds: [3, 4]", "sweep: {guidance.0.scale: [1, ¦x]}"),
    ("seeds: [3, 4]", "sweep: {sampler.steps: [¦0, 5]}"),
]


def run() -> dict[str, Any]:
    """Read every wrong file and compare the place of its mistake, and what is said there."""
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (8, 8)).save(folder / "toy.png")
        path = folder / "run.yaml"
        path.write_text(GOOD)
        read_run_file(path)
        for old, new in CASES:
            new = new.replace("¦", MARK)
            assert old in GOOD, old
            assert new.count(MARK) == 1, new
            marked = GOOD.replace(old, new, 1)
            before = marked[: marked.index(MARK)]
            place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
            path.write_text(marked.replace(MARK, ""))
            label = new[:80].replace(MARK, "¦")
            try:
                read_run_file(path)
            except FileErrors as error:
                here = [one for one in error.errors if (one.line, one.column) == place]
                unclear = [one for one in error.errors if not (one.expected and one.found and one.hint)]
                if not here or unclear:
                    wrong.append({"case": label, "wanted": place, "told": str(error)[:300]})
            except Exception as error:
                wrong.append({"case": label, "raised": repr(error)[:300]})
            else:
                wrong.append({"case": label, "told": "nothing"})
    return {"files": len(CASES), "with_place_and_hint": len(CASES) - len(wrong), "wrong": wrong}


def main() -> None:
    found = run()
    bar = "150 files, all with file:line:column, what was expected and a hint"
    keep("wrong_run_files", bar, found["files"] >= 150 and not found["wrong"], found)


if __name__ == "__main__":
    main()
