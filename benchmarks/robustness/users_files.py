"""Is whatever users hand in loaded as what it is, or refused by its name: as model, variant, VAE, weights, reference?

python benchmarks/robustness/users_files.py     # two minutes

Loaded models must draw the very image of the model that they were made from; others must be refused by our own error,
which must not speak of something else. Anything else counts as silently different.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from robustness_helpers.figures import keep
from safetensors.torch import load_file, save_file

import weft
from weft.core.checkpoints.kind import kind_of
from weft.testing import random_model

UNET = "unet/diffusion_pytorch_model.safetensors"
SCENE = weft.Scene("a toy and a star")
EXTRA = ("README.md", ".gitattributes", "._README.md", ".DS_Store", "v1.ckpt", "v1.yaml", "vae/._config.json",
         "unet/._diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin", "unet/.DS_Store",
         "text_encoder/pytorch_model.bin", "safety_checker/config.json",
         "feature_extractor/preprocessor_config.json")  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """Something that a user hands in.

    Args:
        load: with `weft.load`.
        words: that the refusal has; None where it must load, and draw the image of the whole model.
    """

    name: str
    load: Callable[[], weft.Pipeline]
    words: str | None = None


def changed(model: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a model folder, changed."""
    shutil.copytree(model, folder)
    change(folder)
    return folder


def shards(count: int, drop: int | None = None) -> Callable[[Path], None]:
    """The UNet's weights in parts, one of them missing."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / UNET)
        (folder / UNET).unlink()
        for number in range(1, count + 1):
            if number != drop:
                part = {name: tensors[name] for name in sorted(tensors)[number - 1 :: count]}
                save_file(part, folder / f"{UNET[:-12]}-{number:05d}-of-{count:05d}.safetensors")

    return change


def renamed(variant: str, also: bool = False) -> Callable[[Path], None]:
    """The UNet's weights as a variant, alone or beside the plain ones."""

    def change(folder: Path) -> None:
        target = folder / f"{UNET[:-12]}.{variant}.safetensors"
        (shutil.copy if also else shutil.move)(folder / UNET, target)

    return change


def neighbours(folder: Path) -> None:
    for name in EXTRA:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x00\x05\x16\x07")


def pickled(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def config(part: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def folders(model: Path, root: Path) -> Iterator[Attempt]:
    """Copies of a model folder as hubs, disks and other programs leave them."""

    def attempt(
        name: str, change: Callable[[Path], None], words: str | None = None, **options: Any
    ) -> Attempt:
        folder = changed(model, root / str(len(list(root.iterdir()))), change)
        return Attempt(name, lambda: weft.load(folder, **options), words)

    yield attempt("as it is", lambda _: None)
    yield attempt("files of other programs beside it", neighbours)
    for count in (1, 2, 5):
        yield attempt(f"{count} shards", shards(count))
    yield attempt("a shard is missing", shards(3, drop=2), "number 2 is missing")
    for variant in ("fp16", "bf16"):
        yield attempt(f"{variant} alone", renamed(variant))
        yield attempt(f"{variant} beside the plain file", renamed(variant, also=True))
        yield attempt(f"{variant} by name", renamed(variant, also=True), variant=variant)
    yield attempt("non_ema beside the plain file", renamed("non_ema", also=True))
    yield attempt("non_ema alone", renamed("non_ema"), "the variants non_ema")
    yield attempt("non_ema by name", renamed("non_ema"), variant="non_ema")
    yield attempt("a variant that is not there", lambda _: None, "variant 'fp16'", variant="fp16")
    yield attempt("pickled weights alone", pickled, "pickled weights alone")
    yield attempt("two sets of weights", renamed("x"), "the variants x")
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        yield attempt(f"no {part}", lambda folder, part=part: shutil.rmtree(folder / part), "")
    fields = {"time_cond_proj_dim": 8, "attention_type": "x", "only_cross_attention": True, "in_channels": 9,
              "class_embed_type": "timestep", "dual_cross_attention": True, "encoder_hid_dim": 8}  # fmt: skip
    for name, value in fields.items():
        yield attempt(f"a UNet with {name}", config("unet", **{name: value}), f"field '{name}'")
    yield attempt(
        "an SDXL folder", config("unet", addition_embed_type="text_time"), "Stable Diffusion XL folder"
    )
    yield attempt("another class", config("unet", _class_name="UNet3DConditionModel"), "UNet2DConditionModel")
    yield attempt("its own VAE by name", lambda _: None, vae=model / "vae")
    yield attempt("its own VAE's file", lambda _: None, vae=next((model / "vae").glob("*.safetensors")))
    yield attempt("a UNet as VAE", lambda _: None, "", vae=model / UNET)
    yield attempt("a file that is not there as VAE", lambda _: None, "an autoencoder", vae=root / "nowhere")


def files(model: Path, root: Path) -> Iterator[Attempt]:
    """Single files that are no models."""
    zeros = {"LoRA": "lora_unet_a.lora_down.weight", "ControlNet": "control_model.a", "IP-Adapter": "image_proj.a",
             "textual inversion": "emb_params", "T2I-Adapter": "adapter.body.0.a", "Flux": "double_blocks.0.a",
             "GLIGEN": "position_net.a", "Stable Diffusion XL": "conditioner.embedders.1.a"}  # fmt: skip
    for words, name in zeros.items():
        path = root / f"{words}.safetensors"
        save_file({name: torch.zeros(2)}, path)
        yield Attempt(words, lambda path=path: weft.load(path), words)
    for part, words in (("unet", "UNet alone"), ("vae", "VAE"), ("text_encoder", "CLIP")):
        path = next((model / part).glob("*.safetensors"))
        yield Attempt(f"the {part}'s file", lambda path=path: weft.load(path), words)
        if part != "text_encoder":
            yield Attempt(f"the {part}'s folder", lambda path=path: weft.load(path.parent), words)
    contents = {"git-lfs": b"version https://git-lfs.github.com/spec/v1\n", "HTML": b"<!doctype html><html>",
                "GGUF": b"GGUF" + bytes(60), "zip": b"PK\x03\x04" + bytes(60), "pickled": b"\x80\x02}q\0." + bytes(60),
                "empty": b"", "PDF": b"%PDF-1.7" + bytes(60), "image": b"\x89PNG\r\n\x1a\n" + bytes(60)}  # fmt: skip
    for words, data in contents.items():
        for suffix in (".safetensors", ".ckpt"):
            path = root / f"given {words}{suffix}"
            path.write_bytes(data)
            yield Attempt(f"{words} as {suffix}", lambda path=path: weft.load(path), words)
    yield Attempt("a name of nothing", lambda: weft.load(root / "nothing"), "a zoo name")
    yield Attempt("a folder of nothing", lambda: weft.load(root), "a folder")


def run(every: int = 1) -> dict[str, Any]:
    """Try everything, or every so many."""
    counts = {"attempts": 0, "loaded": 0, "refused": 0}
    different: list[str] = []
    unhandled: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = random_model(root / "model")
        (root / "copies").mkdir()
        (root / "files").mkdir()
        wanted = weft.load(model).generate(SCENE, steps=1, attention=False).images[0].tobytes()
        tried = (*folders(model, root / "copies"), *files(model, root / "files"))
        for attempt in tried[::every]:
            counts["attempts"] += 1
            try:
                image = attempt.load().generate(SCENE, steps=1, attention=False).images[0].tobytes()
            except weft.UserError as error:
                counts["refused"] += 1
                if attempt.words is None or attempt.words not in str(error):
                    different.append(f"{attempt.name}: {str(error)[:200]}")
            except Exception:
                unhandled.append({"file": attempt.name, "error": traceback.format_exc()[-500:]})
            else:
                counts["loaded"] += 1
                if attempt.words is not None or image != wanted:
                    different.append(f"{attempt.name}: loaded")
        assert kind_of(model).loads
    return {**counts, "silently_different": len(different), "unhandled": len(unhandled),
            "first": [*different[:5], *unhandled[:5]]}  # fmt: skip


def main() -> None:
    found = run()
    holds = not found["silently_different"] and not found["unhandled"]
    keep("users_files", "0 unhandled, 0 silently different", holds, found)


if __name__ == "__main__":
    main()
