"""How an image was made, kept within its file and beside it. Free of torch.

The file carries three texts: its run file (`RUN_FILE`), where it comes from (`PROVENANCE`, JSON) and the line of
settings that AUTOMATIC1111's web interface shows (``parameters``). Programs that save an image anew drop them, so a
JSON file of the same name keeps them too. No time, no host and no absolute path is written: the same image gives the
same file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image, UnidentifiedImageError
from pydantic import Field, TypeAdapter, ValidationError

from ..api.generation_settings import GenerationSettings, Reproducibility
from ..api.registry import registry
from ..checkpoints.hub import is_hub_id
from ..errors import UserError
from ..scene.image_formats import encode_image, image_suffix, image_texts
from ..scene.image_io import broken_image, pixel_digest
from ..scene.portable import portable_image
from ..scene.record import record
from ..scene.scene import ImageSource, Scene
from ..storage.atomic import content_digest, write_file
from ..storage.strict_json import read_config
from .a1111 import parameters_line
from .run_file_writer import item_settings, model_path, relative, run_file_text

RUN_FILE = "weft.run"
PROVENANCE = "weft.provenance"
REFERENCES = "references"
"""Beside the images: reference images that were given open, without a file."""

OVERLAY = ".attention."
"""In the name of an image's attention overlay, between its stem and the phrase."""

MAX_SIDECAR_BYTES = 8_000_000
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@record
class Provenance:
    """What an image was drawn with and on.

    Args:
        model: SHA-256 of the model's files as they were read; empty for a model that was not read from files.
        references: SHA-256 of every image that was read, and of every plugin's file, by its path in the run file.
        plugins: the distribution and version of every plugin.
        libraries: versions, Python's included.
        pixels: SHA-256 of the image's mode, size and pixels, which outlives a lossless copy.
        unwritten: what no run file can hold, so that the image cannot be drawn again from one; empty for nothing.
    """

    format: Literal["weft provenance 1"]
    seed: Annotated[int, Field(ge=0)]
    model: Mapping[str, Digest]
    references: Mapping[str, Digest]
    plugins: Mapping[str, str]
    libraries: Mapping[str, str]
    device: str
    hardware: str
    dtype: str
    threads: int
    reproducibility: Reproducibility
    batch_size: int
    pixels: Digest
    unwritten: str = ""


@dataclass(frozen=True)
class Kept:
    """What was read back of an image.

    Args:
        run_file: YAML; its paths are relative to the image's folder.
        source: the file that it was read from: the image, or the JSON file beside it.
    """

    run_file: str
    provenance: Provenance
    source: Path


def write_item(
    folder: Path,
    stem: str,
    image: Image.Image,
    scene: Scene,
    seed: int,
    settings: GenerationSettings,
    item: Mapping[str, Any] | None = None,
    flush: bool = True,
) -> Path:
    """Write one finished image, ``<stem>.png``, with how it was made, and ``<stem>.json`` beside it.

    The image is moved to its place last, so an image that is there is finished.

    Args:
        folder: is there already; paths are written relative to it.
        settings: of the `Result` that holds the image.
        item: more to keep in the JSON file, for example metrics; plain data.
        flush: the files' names too, see `weft.core.storage.atomic.write_file`; what is in them always is.

    Returns:
        The image's path.

    Raises:
        UserError: a reference cannot be read any more, or the disk does not take a file.
    """
    references: dict[str, str] = {}
    unwritten = settings.unwritten

    def place(source: ImageSource) -> str:
        path = source if isinstance(source, Path) else _keep(source, folder)
        if not path.exists() and is_hub_id(path.as_posix()):
            return path.as_posix()
        named = relative(path, folder)
        read = settings.references.digests() if isinstance(source, Path) else {}
        references[named] = read.get(str(path.resolve())) or content_digest(path.resolve())
        return named

    try:
        run_settings = item_settings(settings, scene, seed, place, folder)
    except TypeError as error:
        unwritten = "; ".join(filter(None, (unwritten, str(error))))
        bare = dataclasses.replace(settings, conditioners=(), guidance=())
        run_settings = item_settings(bare, scene, seed, place, folder)
    for one in (*settings.conditioners, *settings.guidance):
        if (file := one.defined_in) is not None:  # what ran, which may not be what is there now
            references[relative(file.path, folder)] = file.sha256
    model = dict(settings.files.digests())
    provenance = Provenance(
        format="weft provenance 1",
        seed=seed,
        model=model,
        references=references,
        plugins={
            one.name: registry().origin(type(one)) for one in (*settings.conditioners, *settings.guidance)
        },
        libraries=libraries(),
        device=settings.device,
        hardware=settings.hardware,
        dtype=settings.dtype,
        threads=settings.threads,
        reproducibility=settings.reproducibility,
        batch_size=settings.batch_size,
        pixels=pixel_digest(image),
        unwritten=unwritten,
    )
    run_file, origin = run_file_text(run_settings), dataclasses.asdict(provenance)
    name = Path(model_path(settings, folder)).name
    line = parameters_line(
        settings, scene.prompt, seed, name, next(iter(model.values()), ""), version("weft")
    )
    texts = {RUN_FILE: run_file, PROVENANCE: json.dumps(origin)}
    data = encode_image(image, texts | {"parameters": line.encode("utf-8", "replace").decode()})
    sidecar = {
        "image": f"{stem}{image_suffix()}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "run_file": run_file,
        "provenance": origin,
        "parameters": line,
        "item": dict(item or {}),
    }
    text = json.dumps(sidecar, indent=1, ensure_ascii=True) + "\n"
    write_file(text.encode(), folder / f"{stem}.json", name=False)
    return write_file(data, folder / f"{stem}{image_suffix()}", name=flush)


def read_provenance(path: Path) -> Kept:
    """How an image was made, from its file, or from the JSON file beside it when the image has lost it.

    Raises:
        UserError: there is no such image, it carries nothing and no JSON file is beside it, or what they carry is
            not what `write_item` writes.
    """
    if not path.is_file():
        raise UserError(f"file '{path}'", "an image that Weft drew", "no such file")
    texts = _texts(path)
    source, sidecar = path, path.with_suffix(".json")
    if not (RUN_FILE in texts and PROVENANCE in texts):
        if not sidecar.is_file():
            hint = f"'{sidecar.name}', which is written beside every image, would do instead."
            raise UserError(f"file '{path}'", "an image with its run file in it", "none in it", hint)
        source, texts = sidecar, _sidecar_texts(sidecar)
    try:
        provenance = _ADAPTER.validate_json(texts[PROVENANCE], strict=True)
    except (ValidationError, UserError, RecursionError):
        raise UserError(f"file '{source}'", "provenance as Weft writes it", "something else") from None
    for named in provenance.references:
        if Path(named).is_absolute():
            raise UserError(f"file '{source}'", "paths relative to the image", f"'{named}'")
    return Kept(texts[RUN_FILE], provenance, source)


def read_item(path: Path) -> Mapping[str, Any]:
    """What else is kept in the JSON file beside an image, such as metrics; nothing when there is no such file."""
    data = _sidecar(path.with_suffix(".json"))
    item = data.get("item")
    return item if isinstance(item, dict) else {}


@functools.cache
def libraries() -> Mapping[str, str]:
    """Versions of Python, Weft and what draws."""
    return {"python": platform.python_version(), "weft": version("weft")} | {
        name: version(name) for name in LIBRARIES
    }


_ADAPTER: TypeAdapter[Provenance] = TypeAdapter(Provenance)


def _texts(path: Path) -> dict[str, str]:
    """The texts that an image carries; none for images of formats that Weft does not write."""
    try:
        return image_texts(path)
    except UnidentifiedImageError:
        return {}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise broken_image(f"file '{path}'", f"'{path.name}'", error) from None


def _sidecar_texts(path: Path) -> dict[str, str]:
    data = _sidecar(path)
    run_file = data.get("run_file")
    if not isinstance(run_file, str):
        raise UserError(f"file '{path}'", "JSON as Weft writes it beside an image", "something else")
    return {RUN_FILE: run_file, PROVENANCE: json.dumps(data.get("provenance"))}


def _sidecar(path: Path) -> Mapping[str, Any]:
    try:
        return read_config(path, MAX_SIDECAR_BYTES)
    except UserError:
        return {}


def _keep(image: Image.Image, folder: Path) -> Path:
    data = encode_image(portable_image(image))
    path = folder / REFERENCES / f"{hashlib.sha256(data).hexdigest()[:16]}{image_suffix()}"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_file(data, path)
    return path
