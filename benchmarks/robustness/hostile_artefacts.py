"""Does any hostile model, picture, run file or output folder make Weft execute, write or fetch anything?

Every artefact is loaded under an audit hook (PEP 578) that notes processes, sockets, compiled code of files, imports
from the artefact's folder, unpickling, and files opened for writing anywhere but where they belong. Every payload would
also touch a canary file.

    python benchmarks/robustness/hostile_artefacts.py     # a minute
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from robustness_helpers.figures import keep

import weft
from weft.core.jobs.reproduce import checked_run
from weft.core.provenance.write import PROVENANCE, RUN_FILE, read_provenance
from weft.core.runfile.read import read_run_file
from weft.core.scene.image_io import open_image
from weft.core.storage.atomic import write_file
from weft.testing import random_model

UNET = "unet/diffusion_pytorch_model.safetensors"
RUN = "version: 1\nmodel: {model}\nprompt: a toy\n{more}"


class Watch:
    """The audit hook. It cannot be removed, so it is switched on for the time of a load."""

    def __init__(self) -> None:
        self.allowed: tuple[Path, ...] = ()
        self.folder = Path()
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        bad = event.startswith(
            (
                "subprocess.",
                "socket.",
                "os.system",
                "os.exec",
                "os.posix_spawn",
                "os.fork",
                "pty.",
                "ctypes.dlopen",
            )
        )
        bad = bad or event in (
            "pickle.find_class",
            "webbrowser.open",
            "urllib.Request",
            "shutil.unpack_archive",
            "zipfile.open",
        )
        if event == "import" and arguments[1] is not None:
            bad = str(arguments[1]).startswith(str(self.folder))
        if event == "exec":
            bad = str(getattr(arguments[0], "co_filename", "")).startswith(str(self.folder))
        if event == "open" and isinstance(arguments[0], (str, bytes)) and isinstance(arguments[2], int):
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = Path(os.fsdecode(arguments[0])).resolve() if writes else Path("/dev/null")
            places = (*self.allowed, Path("/dev"), Path("/proc"))
            bad = bool(writes) and not any(path.is_relative_to(place) for place in places)
        if bad:
            self.seen.append(f"{event} {arguments!r}"[:200])


class Touch:
    """A pickle that leaves a canary when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def change(path: Path, **values: Any) -> None:
    config = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**config, **values}))


Case = Callable[[Path, Path], Callable[[], Any]]
"""Given a fresh model folder and a canary: prepares the artefact and gives what is done with it."""


def cases() -> dict[str, Case]:
    """Every artefact by what it is. Those whose name ends in "(harmless)" may load: the payload is to be ignored."""

    def pickled(name: str) -> Case:
        def make(folder: Path, canary: Path) -> Callable[[], Any]:
            path = folder.parent / name
            path.write_bytes(pickle.dumps(Touch(canary)))
            return lambda: weft.load(path)

        return make

    def part(name: str, data: Callable[[Path], bytes]) -> Case:
        def make(folder: Path, canary: Path) -> Callable[[], Any]:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(data(canary))
            return lambda: weft.load(folder)

        return make

    def config(name: str, **values: Any) -> Case:
        def make(folder: Path, canary: Path) -> Callable[[], Any]:
            (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: pass\n")
            (folder / "unet" / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: pass\n")
            change(folder / name, **values)
            return lambda: weft.load(folder)

        return make

    def zipped(canary: Path) -> bytes:
        path = canary.parent / "made.zip"
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(f"../{canary.name}", "x")
            made.writestr("archive/data.pkl", pickle.dumps(Touch(canary)))
        return path.read_bytes()

    def torch_saved(canary: Path) -> bytes:
        path = canary.parent / "made.pt"
        torch.save({"x": Touch(canary)}, path)
        return path.read_bytes()

    def header(name: str, metadata: Any = None) -> bytes:
        entry: dict[str, Any] = {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        raw = json.dumps(entry | ({"__metadata__": metadata} if metadata else {})).encode()
        return struct.pack("<Q", len(raw)) + raw + b"\0" * 4

    def pipeline_code(folder: Path, canary: Path) -> Callable[[], Any]:
        (folder / "pipeline.py").write_text(f"open({str(canary)!r}, 'w')\n")
        change(folder / "model_index.json", _class_name=["pipeline", "Evil"], custom_pipeline="pipeline.py")
        return lambda: weft.load(folder)

    def only_pickle(folder: Path, canary: Path) -> Callable[[], Any]:
        (folder / UNET).unlink()
        (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Touch(canary)))
        return lambda: weft.load(folder)

    def index(folder: Path, canary: Path) -> Callable[[], Any]:
        (folder / UNET).unlink()
        shards = {"weight_map": {"conv_in.weight": "../../../etc/passwd"}, "metadata": {}}
        (folder / f"{UNET}.index.json").write_text(json.dumps(shards))
        return lambda: weft.load(folder)

    def linked(folder: Path, canary: Path) -> Callable[[], Any]:
        (folder / UNET).unlink()
        (folder / UNET).symlink_to("/etc/passwd")
        return lambda: weft.load(folder)

    def linked_folder(folder: Path, canary: Path) -> Callable[[], Any]:
        shutil.rmtree(folder / "unet")
        (folder / "unet").symlink_to("/proc/self")
        return lambda: weft.load(folder)

    def pipe(folder: Path, canary: Path) -> Callable[[], Any]:
        (folder / UNET).unlink()
        os.mkfifo(folder / UNET)
        return lambda: weft.load(folder)

    def run_file(more: str) -> Case:
        def make(folder: Path, canary: Path) -> Callable[[], Any]:
            path = folder.parent / "run.yaml"
            path.write_text(RUN.format(model=folder.name, more=more.replace("CANARY", str(canary))))
            return lambda: read_run_file(path)

        return make

    def picture(kind: str, data: bytes) -> Case:
        def make(folder: Path, canary: Path) -> Callable[[], Any]:
            path = folder.parent / kind
            path.write_bytes(data.replace(b"CANARY", str(canary).encode()))
            return lambda: open_image(path, "picture")

        return make

    def strangers_png(folder: Path, canary: Path) -> Callable[[], Any]:
        path = folder.parent / "stranger.png"
        texts = PngInfo()
        texts.add_itxt(RUN_FILE, f"!!python/object/apply:os.system ['touch {canary}']\n")
        origin = {
            "format": "weft provenance 1",
            "seed": 0,
            "model": {},
            "references": {},
            "plugins": {},
            "libraries": {},
        }
        origin |= {
            "device": "cpu",
            "hardware": "",
            "dtype": "float32",
            "threads": 1,
            "reproducibility": "exact",
        }
        texts.add_itxt(PROVENANCE, json.dumps({**origin, "batch_size": 1, "pixels": "0" * 64}))
        Image.new("RGB", (4, 4)).save(path, pnginfo=texts)
        return lambda: checked_run(read_provenance(path), path.parent)

    def output_link(folder: Path, canary: Path) -> Callable[[], Any]:
        made = folder.parent / "out"
        made.mkdir()
        (made / "0000.png").symlink_to(canary)
        (made / "0000.png.partial").symlink_to(canary)
        return lambda: write_file(b"x", made / "0000.png")

    yaml = "!!python/object/apply:os.system ['touch CANARY']"
    return {
        "a pickle called .ckpt": pickled("model.ckpt"),
        "a pickle called .bin": pickled("model.bin"),
        "a pickle called .pt": pickled("model.pt"),
        "a pickle called .safetensors": pickled("model.safetensors"),
        "a pickle without a suffix": pickled("weights"),
        "a pickle in place of weights": part(UNET, lambda canary: pickle.dumps(Touch(canary))),
        "a torch file in place of weights": part(UNET, torch_saved),
        "a zip with ../ in place of weights": part(UNET, zipped),
        "a folder with pickled weights only": only_pickle,
        "a pickle beside good weights (harmless)": part(
            "unet/diffusion_pytorch_model.bin", lambda c: pickle.dumps(Touch(c))
        ),
        "shards that name /etc/passwd": index,
        "weights that are a link to /etc/passwd": linked,
        "a part that is a link to /proc/self": linked_folder,
        "weights that are a pipe": pipe,
        "a tensor called ../../etc/passwd": part(UNET, lambda _: header("../../etc/passwd")),
        "metadata that names a class": part(
            UNET, lambda _: header("x", {"class": "os.system", "format": "pt"})
        ),
        "auto_map in the UNet (harmless)": config("unet/config.json", auto_map={"AutoModel": "evil.Model"}),
        "auto_map in the text encoder (harmless)": config(
            "text_encoder/config.json", auto_map={"AutoModel": "evil.Model"}, trust_remote_code=True
        ),
        "a list for _class_name": config("unet/config.json", _class_name=["evil", "Model"]),
        "a dotted path for _class_name": config("vae/config.json", _class_name="os.system"),
        "architectures that name a module": config("text_encoder/config.json", architectures=["evil.Model"]),
        "a custom pipeline (harmless)": pipeline_code,
        "a custom tokenizer (harmless)": config(
            "tokenizer/tokenizer_config.json",
            auto_map={"AutoTokenizer": ["evil.Model", None]},
            tokenizer_class="evil.Model",
        ),
        "a custom scheduler (harmless)": config(
            "scheduler/scheduler_config.json", _class_name=["evil", "Model"]
        ),
        "a class path among the UNet's blocks": config(
            "unet/config.json", down_block_types=["evil.Model"] * 3
        ),
        "an activation that is code": config(
            "text_encoder/config.json", hidden_act="__import__('os').system('id')"
        ),
        "a model of a billion layers": config("text_encoder/config.json", num_hidden_layers=10**9),
        "a tag in a run file": run_file(f"seeds: {yaml}\n"),
        "a plugin by its class path": run_file("guidance: [{type: os.system, command: touch CANARY}]\n"),
        "a plugin by its module": run_file("conditioners: ['evil:Model']\n"),
        "PostScript called .png": picture("x.png", b"%!PS\n(CANARY) (w) file closefile\n"),
        "an SVG called .png": picture("x.png", b"<svg xmlns='x'><script>x</script></svg>"),
        "a run file with a tag within a picture": strangers_png,
        "links in the output folder (harmless)": output_link,
    }


def run(names: list[str] | None = None) -> dict[str, Any]:
    """Load every artefact, or those of these names."""
    warnings.simplefilter("ignore")
    watch = Watch()
    refused, loaded, executed, unhandled = 0, [], [], []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        original = random_model(place / "original")
        weft.load(original)  # what is imported at the first load is not the artefact's doing
        for number, (label, make) in enumerate(cases().items()):
            if names is not None and label not in names:
                continue
            folder = place / str(number) / "model"
            shutil.copytree(original, folder)
            canary = folder.parent / "canary"
            act = make(folder, canary)
            watch.allowed, watch.folder, watch.seen = (folder.parent / "out",), folder.parent, []
            watch.on = True
            try:
                act()
                loaded.append(label)
            except weft.UserError:
                refused += 1
            except Exception:
                unhandled.append({"artefact": label, "error": traceback.format_exc()[-600:]})
            finally:
                watch.on = False
            if canary.exists() or watch.seen:
                executed.append({"artefact": label, "canary": canary.exists(), "events": watch.seen[:5]})
            shutil.rmtree(folder.parent)
    wanted = [
        label for label in cases() if label.endswith("(harmless)") and (names is None or label in names)
    ]
    return {
        "artefacts": len(cases()) if names is None else len(names),
        "refused": refused,
        "loaded_without_the_payload": loaded,
        "loaded_and_should_not": sorted(set(loaded) ^ set(wanted)),
        "executed": len(executed),
        "unhandled": len(unhandled),
        "first": (executed + unhandled)[:5],
    }


def main() -> None:
    found = run()
    holds = not (found["executed"] or found["unhandled"] or found["loaded_and_should_not"])
    keep("hostile_artefacts", "30 artefacts, 0 executed", holds, found)


if __name__ == "__main__":
    main()
