"""What a generation gives: images, latents, attention maps by phrase, and ways to look at and keep them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .api.generation_settings import GenerationSettings
from .api.text_encoder import PromptTokens
from .errors import UserError
from .provenance.write import OVERLAY, write_item
from .report.sheet import tile
from .sampling.trace import Trace
from .scene.image_formats import WRITTEN, encode_image
from .scene.scene import Scene
from .storage.atomic import make_folder, write_image
from .storage.lock import only_writer


@dataclass(frozen=True)
class Sample:
    """Which scene and which seed an image was made from."""

    scene: Scene
    seed: int
    tokens: PromptTokens


@dataclass(frozen=True)
class Result:
    """Images in the order of scenes, then seeds.

    Args:
        images: the images.
        latents: before decoding, scaled as the VAE's encoder would after its scaling factor.
        samples: every image's scene and seed.
        maps: every image's mean cross-attention over layers, heads and steps; None where it was not recorded.
        trace: every step of every batch: the branches that were evaluated, what energies did, and what it cost.
        settings: what they were made with.
    """

    images: list[Image.Image]
    latents: Float[Tensor, "s c h w"]
    samples: tuple[Sample, ...]
    maps: tuple[Float[Tensor, "_h _w t"], ...] | None
    trace: tuple[Trace, ...]
    settings: GenerationSettings

    def __repr__(self) -> str:
        sizes = sorted({f"{image.width} x {image.height}" for image in self.images})
        scenes = len({id(sample.scene) for sample in self.samples})
        seeds = len({sample.seed for sample in self.samples})
        drawn = f"{len(self.images)} images of {', '.join(sizes)}"
        return f"<Result: {drawn}; scenes {scenes}, seeds {seeds}, model '{self.settings.model}'>"

    def __len__(self) -> int:
        return len(self.images)

    def attention(self, phrase: str, image: int = 0, occurrence: int | None = None) -> Float[Tensor, "h w"]:
        """Where a phrase of the prompt was attended to, summed over its tokens; every pixel in [0, 1].

        Raises:
            UserError: maps were not recorded, or the prompt has no such phrase.
        """
        if self.maps is None:
            raise UserError("Result.attention", "a generation with attention=True", "one without maps")
        tokens = self.samples[image].tokens
        positions = tokens.find(phrase, occurrence)
        if positions is None:
            raise UserError("Result.attention", f"a phrase of '{tokens.text}'", f"'{phrase}'")
        return self.maps[image][..., list(positions)].sum(dim=-1)

    def overlay(self, phrase: str, image: int = 0, occurrence: int | None = None) -> Image.Image:
        """The image, dark where the phrase was not attended to."""
        drawn = self.images[image]
        heat = self.attention(phrase, image, occurrence)
        heat = (heat - heat.min()) / (heat.max() - heat.min()).clamp_min(1e-12)
        size = (drawn.height, drawn.width)
        shade = F.interpolate(heat[None, None], size=size, mode="bicubic").clamp(0, 1)[0, 0]
        pixels = np.asarray(drawn, dtype=np.float32) * (0.2 + 0.8 * shade.cpu().numpy()[..., None])
        return Image.fromarray(pixels.round().astype(np.uint8))

    def grid(self, columns: int | None = None, gap: int = 4) -> Image.Image:
        """All images in one, row by row.

        Args:
            columns: images per row; as square as possible by default.
            gap: white pixels between images.
        """
        return tile(self.images, columns, gap)

    def save(self, folder: str | Path, attention: Sequence[str] = ()) -> list[Path]:
        """Write the images as ``0000-seed7.png``, each with how it was made in it and in a JSON file beside it.

        Every file is written in one step, so that a kill leaves no half file. The numbers follow those of the images
        that are there already, so that none is written over.

        Args:
            attention: phrases whose `overlay` is written beside each image, for `weft show`.

        Raises:
            UserError: the folder cannot be written to, or another run of weft is writing to it.
        """
        target = make_folder(Path(folder), "Result.save")
        paths = []
        with only_writer(target, "Result.save"):
            first = _next_number(target)
            for number, (image, one) in enumerate(zip(self.images, self.samples, strict=True)):
                stem = f"{first + number:04d}-seed{one.seed}"
                for phrase in attention:
                    words = re.sub(r"\W+", "-", phrase)[:60]
                    write_image(self.overlay(phrase, number), target, f"{stem}{OVERLAY}{words}")
                paths.append(write_item(target, stem, image, one.scene, one.seed, self.settings))
        return paths

    def _repr_html_(self) -> str:
        from .report.html import render

        figures = [
            {
                "data": base64.b64encode(encode_image(image)).decode(),
                "prompt": sample.scene.prompt,
                "seed": sample.seed,
            }
            for image, sample in zip(self.images, self.samples, strict=True)
        ]
        return render("result", figures=figures, media_type=WRITTEN[0].media_type)

    @staticmethod
    def merge(parts: Sequence[Result]) -> Result:
        """One result of several parts of one generation, in order."""
        maps = [part.maps for part in parts]
        recorded = None if any(m is None for m in maps) else tuple(m for ms in maps if ms for m in ms)
        return Result(
            images=[image for part in parts for image in part.images],
            latents=torch.cat([part.latents for part in parts]),
            samples=tuple(sample for part in parts for sample in part.samples),
            maps=recorded,
            trace=tuple(trace for part in parts for trace in part.trace),
            settings=parts[0].settings,
        )


def _next_number(folder: Path) -> int:
    """One more than the highest number of an image in a folder."""
    numbers = (re.match(r"(\d{4,9})-seed", path.name) for path in folder.iterdir())
    return max((int(number[1]) + 1 for number in numbers if number), default=0)
