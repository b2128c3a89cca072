"""What a conditioner may use of the model while it prepares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from ..checkpoints.tensors import read_tensors
from ..errors import UserError
from ..scene.pixels import open_image, open_mask, to_tensor
from ..scene.region import Region
from ..scene.scene import Box, ImageSource, Scene, Subject
from .family import Family
from .image_encoder import ARCHITECTURE, CONFIG, ImageTower, load_tower
from .image_encoder import FOLDER as TOWER
from .text_encoder import TextEncoder


@dataclass(frozen=True)
class ModelView:
    """The model, read-only, and the size of the image.

    Args:
        text: tokenizer and text transformer.
        unet: for its configuration and its modules' names; its parameters must not be written.
        vae: for encoding images to latents.
        size: (height, width) of the image in pixels.
        family: of the model.
        folder: where the model's own plugin weights lie, below ``weft/``; beside a single file, a folder of its name.
        variant: of the files that it was read from.
        extra_input: for a UNet that reads more than the latents, the convolution (without a bias) of what comes beside
            them, which a conditioner feeds through `InputChannels`, present and null; ``extra_input.in_channels`` says
            how much that is. None for most models.
    """

    text: TextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    size: tuple[int, int]
    family: Family
    folder: Path | None = None
    variant: str | None = None
    extra_input: nn.Conv2d | None = None

    def __repr__(self) -> str:
        height, width = self.size
        return f"<ModelView: {self.family.name}, {width} x {height}, {self.dtype} on {self.device}>"

    @property
    def factor(self) -> int:
        """Pixels a latent position, along one side."""
        return self.family.latent_factor(self.vae.config)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        return self.size[0] // self.factor, self.size[1] // self.factor

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.unet.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.unet.parameters()).dtype
        return dtype

    def latents(self, pixels: Float[Tensor, "s 3 _h _w"]) -> Float[Tensor, "s c h w"]:
        """Latents of pixels in [-1, 1], the mean of what the autoencoder gives, scaled as the UNet reads them."""
        return self.family.to_latents(self.vae, pixels).to(self.device)

    @torch.no_grad()
    def source_latents(self, scene: Scene) -> Float[Tensor, "c h w"]:
        """Latents of a scene's source, as `latents`.

        Raises:
            UserError: there is no source, it cannot be read, or it has another size than the image.
        """
        place = "scene, field 'source'"
        if scene.source is None:
            raise UserError(place, "an image to edit", "none")
        image = open_image(scene.source, place)
        height, width = self.size
        if image.size != (width, height):
            size = f"{image.width} x {image.height}"
            raise UserError(place, f"an image of {width} x {height} pixels", size, "Resize or crop it first.")
        return self.latents(to_tensor(image).to(self.vae.dtype)[None] * 2.0 - 1.0)[0]

    def region(self, subject: Subject) -> Float[Tensor, "h w"] | None:
        """Where a subject should be, at the image's size: its mask, else its box, else None.

        Raises:
            UserError: the mask cannot be read, or the place covers no pixel.
        """
        region = None
        if subject.mask is not None:
            region = self._mask(subject.mask, f"subject '{subject.phrase}', field 'mask'")
        elif subject.box is not None:
            region = self._inside(subject.box)
        if region is not None and not bool(region.any()):
            field, (height, width) = "box" if subject.mask is None else "mask", self.size
            found = "a black image" if subject.mask is not None else f"{subject.box}"
            raise UserError(
                f"subject '{subject.phrase}', field '{field}'",
                f"a place that covers the centre of a pixel of {width} x {height}",
                found,
            )
        return region

    def area(self, region: Region, scene: Scene) -> Float[Tensor, "h w"]:
        """A part of the image, as a mask in [0, 1] at its size.

        Raises:
            UserError: the scene has no such subject, it has no place, or the mask has another size.
        """
        subject = region.of(scene)
        if region.rest:
            others = [place for one in scene.subjects if (place := self.region(one)) is not None]
            return 1.0 - torch.stack(others).amax(0)
        if region.mask is not None:
            return self._mask(region.mask, "field 'region.mask'")
        if region.box is not None:
            return self._inside(region.box)
        assert subject is not None
        place = self.region(subject)
        assert place is not None
        return place

    def _mask(self, source: ImageSource, place: str) -> Float[Tensor, "h w"]:
        return open_mask(source, self.size, place).to(self.device)

    def _inside(self, box: Box) -> Float[Tensor, "h w"]:
        """1 at the pixels whose centres lie in a box."""
        left, top, right, bottom = box
        height, width = self.size
        rows = (torch.arange(height, device=self.device) + 0.5) / height
        columns = (torch.arange(width, device=self.device) + 0.5) / width
        inside = ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))[
            None, :
        ]
        return inside.float()

    def image_tower(self, weights: Path | None = None, architecture: str | None = None) -> ImageTower:
        """The tower that reads reference images: the model's own, or that of a local open_clip checkpoint.

        Args:
            weights: a ``.safetensors`` file of open_clip; the model folder's own by default.
            architecture: its name in open_clip; by default what an ``open_clip_config.json`` beside ``weights`` says,
                else ``"ViT-L-14-quickgelu"``, OpenAI's, which Stable Diffusion 1.x was trained with.

        Raises:
            UserError: the model has no image tower and none is given, or the file does not hold one.
        """
        if weights is not None:
            beside = weights.parent / CONFIG
            config = architecture or (beside if beside.is_file() else ARCHITECTURE)
            return load_tower(weights, config, self.device, self.dtype)
        own = None if self.folder is None else self.folder / TOWER
        if own is None or not own.is_dir():
            hint = "Name an open_clip checkpoint in the conditioner's field 'image_encoder'."
            raise UserError("image tower", f"the folder '{TOWER}' in the model's folder", "none", hint)
        files = own / "open_clip_model.safetensors", own / CONFIG
        return load_tower(*files, self.device, self.dtype)

    def weights_file(self, plugin: str) -> Path:
        """The file of weights that the model ships for a plugin.

        Raises:
            UserError: the model has none.
        """
        path = None if self.folder is None else self.folder / "weft" / f"{plugin}.safetensors"
        if path is None or not path.is_file():
            hint = f"Name a file in the field 'weights' of '{plugin}'."
            raise UserError(f"plugin '{plugin}'", "weights in the model's folder 'weft/'", "none", hint)
        return path

    def weights(self, plugin: str) -> dict[str, Tensor]:
        """The tensors that the model ships for a plugin.

        Raises:
            UserError: the model has none.
        """
        return read_tensors(self.weights_file(plugin))
