"""Drawing an image again from what it carries: first the digests are compared, then the pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..api.load_settings import DTYPES
from ..api.registry import registry
from ..checkpoints.files import model_digests
from ..checkpoints.hub import hub_folder
from ..errors import UserError
from ..provenance.read_files import paths_in
from ..provenance.write import Kept, libraries
from ..runfile.read import runs_of
from ..runfile.run import Run
from ..runfile.strict_yaml import parse_yaml
from ..scene.image_io import open_image, pixel_digest
from ..scene.reading import without_warnings
from ..storage.atomic import content_digest


@dataclass(frozen=True)
class Redrawn:
    """An image that was drawn again.

    Args:
        image: the new one.
        equal: its pixels are those that were recorded when the image was made.
        psnr: decibels between it and the image's file, 8 bits a channel; infinite where no pixel differs, None where
            their sizes differ.
        untouched: the file's pixels are still those that were recorded.
        differences: what is not as it was and may explain another image: versions, device, threads.
    """

    image: Image.Image
    equal: bool
    psnr: float | None
    untouched: bool
    differences: tuple[str, ...]


def checked_run(kept: Kept, folder: Path, download: bool = False) -> Run:
    """The run of an image, after the digests of its references and of its model were compared. Free of torch.

    Args:
        folder: of the image.
        download: a model of the hub may be fetched; whoever made the image chose which.

    Returns:
        its model is a zoo name or a path.

    Raises:
        UserError: a file is missing or is not the one that was used, or the run file does not hold everything.
    """
    place = f"file '{kept.source}'"
    if kept.provenance.unwritten:
        hint = "It was drawn from Python, with what only Python can give."
        raise UserError(place, "an image that a run file describes", kept.provenance.unwritten, hint)
    for named, wanted in kept.provenance.references.items():
        _compare(folder / named, f"reference '{named}'", wanted)
    runs = runs_of(parse_yaml(kept.run_file, f"run file in {kept.source}"), folder)
    if len(runs) != 1 or len(runs[0].seeds) != 1:
        raise UserError(place, "the run file of one image", f"one of {sum(len(r.seeds) for r in runs)}")
    hub = [
        str(path)
        for one in (*runs[0].conditioners, *runs[0].guidance)
        for path in paths_in(one)
        if not path.exists()
    ]
    if hub and not download:
        hint = "`weft repro --download` fetches them, if you trust whoever made the image to choose them."
        raise UserError(place, "weights that are here", ", ".join(hub), hint)
    return replace(runs[0], model=_compared_model(runs[0].model, runs[0].load.variant, kept, download))


def draw_again(kept: Kept, path: Path, download: bool = False) -> Redrawn:
    """Check and draw.

    Args:
        path: the file that was given; its pixels are compared.
        download: as `checked_run` has it.

    Raises:
        UserError: as `checked_run`, the image cannot be read, or it says that it was drawn on what nothing draws on.
    """
    run = checked_run(kept, path.parent, download)
    before = open_image(path, f"file '{path}'")
    import torch

    from ..load import load

    known = kept.provenance
    differences = [
        f"{name} {libraries().get(name, 'none')}, was {was}"
        for name, was in known.libraries.items()
        if libraries().get(name) != was
    ]
    device = known.device
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,2})?", device):
        raise UserError(
            f"file '{kept.source}', field 'device'", "a device such as cpu or cuda", f"'{device}'"
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        device = "cpu"
    elif device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
        device = "cuda"
    if known.dtype not in DTYPES:
        raise UserError(
            f"file '{kept.source}', field 'dtype'", f"one of {', '.join(DTYPES)}", f"'{known.dtype}'"
        )
    dtype = getattr(torch, known.dtype)
    pipe = load(run.model, **{**run.load.options(), "device": device, "dtype": dtype})
    with _threads(known.threads), without_warnings():
        options = run.sampler.options()
        result = pipe.generate(
            run.scene,
            run.conditioners,
            run.guidance,
            **options,
            seeds=run.seeds,
            reproducibility=run.reproducibility,
            attention=False,
        )
    now = result.settings
    for name, was, is_now in (
        ("device", known.device, now.device),
        ("hardware", known.hardware, now.hardware),
    ):
        if was != is_now:
            differences.append(f"{name} {is_now}, was {was}")
    image = result.images[0]
    return Redrawn(
        image=image,
        equal=pixel_digest(image) == known.pixels,
        psnr=psnr(image, before),
        untouched=pixel_digest(before) == known.pixels,
        differences=tuple(differences),
    )


def psnr(first: Image.Image, second: Image.Image) -> float | None:
    """Peak signal-to-noise ratio of two RGB images in decibels: 10 log10(255^2 / mean squared difference)."""
    if first.size != second.size:
        return None
    a, b = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (first, second))
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def _compare(path: Path, place: str, wanted: str) -> None:
    try:
        actual = content_digest(path.resolve())
    except UserError:
        raise UserError(place, "the file that the image was drawn with", "no such file") from None
    if actual != wanted:
        raise UserError(place, f"SHA-256 {wanted[:12]}..., as when the image was drawn", f"{actual[:12]}...")


def _compared_model(model: str, variant: str | None, kept: Kept, download: bool) -> str:
    """The model's zoo name, or where it lies, after its files were compared.

    Raises:
        UserError: it is not here, or a file differs.
    """
    wanted = kept.provenance.model
    if not wanted:
        hint = "It was not read from files."
        raise UserError(f"file '{kept.source}'", "digests of its model", "none", hint)
    card = registry().model(model)
    path = Path(model) if card is None else card.folder
    if not path.exists():
        path = hub_folder(model, download, variant)
    actual = model_digests(path, variant)
    for name in sorted(wanted.keys() | actual.keys()):
        if name.startswith("weft/") and name not in wanted:
            continue  # weights of a plugin that came later
        if actual.get(name) != wanted.get(name):
            how = "no such file" if name not in actual else "another one"
            raise UserError(f"model '{model}', file '{name}'", "the file that drew the image", how)
    return model if card is not None else str(path)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads an operation: sums over another number of threads round differently."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, 1024)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
