"""What a file or a folder is that was given as a model, told by its header alone. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..storage.strict_json import read_config
from .tensor_header import read_header


@dataclass(frozen=True)
class Kind:
    """What something is.

    Args:
        name: in words, with an article, for example ``"a LoRA"``.
        hint: what to do with it instead.
        loads: whether `weft.load` takes it, as far as its header tells.
        needs: a part of a model that it lacks and that can be named beside it: ``"vae"``.
    """

    name: str
    hint: str = ""
    loads: bool = False
    needs: str = ""


_ELSEWHERE = "It is no model by itself: load the model that it was made for."
_FOLDER = "Take the folder in diffusers layout of the same model."
_OTHER = "Weft draws with Stable Diffusion 1.x, and with 2.x in diffusers layout."
PICKLED = "Pickled checkpoints (.ckpt, .bin, .pt) can run code and are never read; convert it to .safetensors first."

_BYTES: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs", Kind("a git-lfs pointer", "The file itself is fetched by `git lfs pull`.")),
    (b"GGUF", Kind("a GGUF file", "Quantised weights are not read; take the .safetensors file.")),
    (b"PK\x03\x04", Kind("a zip archive, as pickled checkpoints are", PICKLED)),
    (b"\x80", Kind("a pickled checkpoint", PICKLED)),
    (b"\x89HDF", Kind("an HDF5 file", "Take the .safetensors file.")),
    (b"\x89PNG", Kind("an image", "Images belong under 'subjects', 'maps' or 'source'.")),
    (b"\xff\xd8\xff", Kind("an image", "Images belong under 'subjects', 'maps' or 'source'.")),
    (b"%PDF", Kind("a PDF file")),
    (b"\x1f\x8b", Kind("a gzip archive", "Unpack it first.")),
)
_PAGE = Kind("an HTML page", "The download failed, or asked for a login or a licence: fetch the file again.")

SD1 = Kind("a Stable Diffusion 1.x checkpoint", loads=True)


def _any(*patterns: str) -> Callable[[Collection[str]], bool]:
    found = re.compile("|".join(patterns))
    return lambda names: any(found.search(name) for name in names)


def _start(*starts: str) -> Callable[[Collection[str]], bool]:
    return lambda names: any(name.startswith(starts) for name in names)


# in this order: a LoRA names the layers of a UNet, and a ControlNet has some of its own
_TENSORS: tuple[tuple[Callable[[Collection[str]], bool], Kind], ...] = (
    (_any(r"lora_controlnet"), Kind("a Control-LoRA", _ELSEWHERE)),
    (
        _any(r"lora_(down|up|A|B)\b", r"\.lora\.(down|up)", r"_lora\.(down|up)", r"\.(hada|lokr)_w[12]"),
        Kind("a LoRA", _ELSEWHERE),
    ),
    (_start("image_proj.", "ip_adapter."), Kind("an IP-Adapter", _ELSEWHERE)),
    (
        _start("control_model.", "controlnet_", "zero_convs.", "input_hint_block."),
        Kind("a ControlNet", _ELSEWHERE),
    ),
    (_start("adapter.body.", "body.0."), Kind("a T2I-Adapter", _ELSEWHERE)),
    (
        _start("emb_params", "clip_l", "clip_g", "string_to_param", "<"),
        Kind("a textual inversion", _ELSEWHERE),
    ),
    (
        _any(r"(^|\.)position_net\."),
        Kind("weights of GLIGEN", "Name it in the field 'weights' of the conditioner grounding."),
    ),
    (_any(r"(^|\.)double_blocks\.\d"), Kind("a Flux checkpoint", _OTHER)),
    (_any(r"(^|\.)joint_blocks\.\d"), Kind("a Stable Diffusion 3 checkpoint", _OTHER)),
    (_start("conditioner.embedders.1."), Kind("a Stable Diffusion XL checkpoint", _OTHER)),
    (_start("conditioner.embedders.0."), Kind("a Stable Diffusion XL refiner", _OTHER)),
    (_start("cond_stage_model.model."), Kind("a Stable Diffusion 2.x checkpoint", _FOLDER)),
)
_UNET_ALONE = Kind(
    "a UNet alone", "A model has a VAE and a text encoder too: name its whole folder or checkpoint."
)


def kind_of_tensors(names: Collection[str]) -> Kind:
    """What a safetensors file with tensors of these names is."""
    for matches, kind in _TENSORS:
        if matches(names):
            return kind
    unet = any(name.startswith("model.diffusion_model.") for name in names)
    vae = any(name.startswith("first_stage_model.") for name in names)
    text = any(name.startswith("cond_stage_model.transformer.") for name in names)
    if unet and vae and text:
        return SD1
    if unet and text:
        hint = "Name one beside it: weft.load(model, vae=...), or vae: in a run file."
        return Kind("a Stable Diffusion 1.x checkpoint without a VAE", hint, loads=True, needs="vae")
    if unet and not text and vae:
        return Kind("a checkpoint without a text encoder", _FOLDER)
    if unet or {"conv_in.weight", "time_embedding.linear_1.weight"} <= set(names):
        return _UNET_ALONE
    if vae or any(
        name.startswith(("encoder.conv_in.", "decoder.conv_in.", "encoder.down")) for name in names
    ):
        return Kind("a VAE", "Name it beside a model: weft.load(model, vae=...), or vae: in a run file.")
    clip = (
        "text_model.",
        "visual.",
        "vision_model.",
        "transformer.resblocks.",
        "embeddings.",
        "encoder.layers.",
    )
    if any(name.startswith(clip) for name in names):
        return Kind("a CLIP model, or a part of one", _ELSEWHERE)
    return Kind("a safetensors file of something else", _OTHER)


def kind_of(path: Path) -> Kind:
    """What lies at a path that was given as a model.

    Raises:
        UserError: it cannot be read, or is a safetensors file whose header is broken.
    """
    return _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)


def check_model(path: Path, place: str, vae: bool = False) -> None:
    """Refuse what is no model, by name.

    Args:
        path: a file or a folder that is there.
        place: what the error names.
        vae: whether one is named beside it.

    Raises:
        UserError: it is something else, or lacks a part.
    """
    kind = kind_of(path)
    if not kind.loads or (kind.needs and not vae):
        raise UserError(
            place,
            "a folder in diffusers layout or a checkpoint",
            f"{kind.name}, '{path}'",
            kind.hint or _OTHER,
        )


def _kind_of_file(path: Path) -> Kind:
    try:
        if not path.is_file():
            return Kind("no file")
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"file '{path}'", "a file that can be read", error.strerror or str(error)) from None
    if not start:
        return Kind("an empty file", "The download failed: fetch it again.")
    # a safetensors file begins with the length of its header, whose first byte can be any
    if start[8:9] == b"{":
        return kind_of_tensors(read_header(path).shapes)
    for mark, kind in _BYTES:
        if start.startswith(mark):
            return kind
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return _PAGE
    if path.suffix.lower() in (".ckpt", ".bin", ".pt", ".pth", ".pkl"):
        return Kind(f"a '{path.suffix}' file", PICKLED)
    if path.suffix == ".safetensors":
        read_header(path)  # says what is wrong with it
    return Kind("a file of something else", _OTHER)


_CLASSES = {
    "AutoencoderKL": Kind(
        "a VAE", "Name it beside a model: weft.load(model, vae=...), or vae: in a run file."
    ),
    "ControlNetModel": Kind("a ControlNet", _ELSEWHERE),
    "T2IAdapter": Kind("a T2I-Adapter", _ELSEWHERE),
    "UNet2DConditionModel": _UNET_ALONE,
}


def _kind_of_folder(folder: Path) -> Kind:
    index = _config(folder / "model_index.json")
    pipeline = index.get("_class_name")
    unet = _config(folder / "unet" / "config.json")
    xl = unet.get("addition_embed_type") == "text_time"
    if xl or (isinstance(pipeline, str) and "XL" in pipeline):
        return Kind("a Stable Diffusion XL folder", _OTHER)
    if (folder / "unet").is_dir():
        return Kind("a folder in diffusers layout", loads=True)
    if isinstance(pipeline, str):
        return Kind(f"a folder of {pipeline}", _OTHER)
    own = _config(folder / "config.json").get("_class_name")
    if isinstance(own, str):
        return _CLASSES.get(own, Kind(f"a folder of {own}", _ELSEWHERE))
    if (folder / "adapter_config.json").is_file():
        return Kind("a LoRA", _ELSEWHERE)
    return _kind_of_contents(folder)


def _kind_of_contents(folder: Path) -> Kind:
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    weights = [name for name in files if name.endswith(".safetensors")]
    if len(weights) == 1:
        return Kind("a folder that holds one file of weights", f"Name the file: '{folder / weights[0]}'.")
    if weights:
        return Kind(f"a folder of {len(weights)} files of weights", f"Name one: {', '.join(weights[:5])}.")
    if any(name.endswith((".ckpt", ".bin", ".pt", ".pth")) for name in files):
        return Kind("a folder of pickled checkpoints", PICKLED)
    holds = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    return Kind(
        "a folder of something else",
        f"It holds {holds}; a model's has 'unet', 'vae' and more.",
    )


def _config(path: Path) -> dict[str, object]:
    try:
        return read_config(path) if path.is_file() else {}
    except UserError:
        return {}
