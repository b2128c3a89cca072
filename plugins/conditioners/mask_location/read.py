"""What `mask_location` contributes to the branches of one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import Fixed, InputChannels, ModelView, Prepared, Scene, UserError, trained_networks

from .networks import MaskLocationNetworks, at_grid, background

if TYPE_CHECKING:
    from . import MaskLocation


@torch.no_grad()
def read(plugin: MaskLocation, scene: Scene, model: ModelView) -> Prepared:
    """Make the mask channel of a scene; see `MaskLocation`."""
    regions = _regions(plugin, scene, model)
    networks = trained_networks(
        plugin.name,
        model,
        plugin.weights,
        lambda tensors, place: MaskLocationNetworks.from_tensors(tensors, model.unet, place, model.dtype),
    )
    known = torch.ones(1, len(regions), dtype=torch.bool, device=model.device)
    channel = background(regions[None], known)[0]
    return Fixed((InputChannels(networks.convolution, channel), *networks.deltas()))


def _regions(plugin: MaskLocation, scene: Scene, model: ModelView) -> Float[Tensor, "s h w"]:
    """Where the subjects that have a place are, at the latents' size.

    Raises:
        UserError: one covers nothing.
    """
    regions = []
    for subject in scene.subjects:
        whole = model.region(subject)
        if whole is None:
            continue
        region = at_grid(whole[None, None], model.latent_size, plugin.resize)[0, 0]
        if not bool(region.any()):
            field, (height, width) = "box" if subject.mask is None else "mask", model.latent_size
            raise UserError(
                f"subject '{subject.phrase}', field '{field}'",
                f"a place that covers a position of the {width} x {height} latents",
                "none",
                "Set mask_location's field 'resize' to 'area'." if plugin.resize == "nearest" else "",
            )
        regions.append(region)
    return torch.stack(regions)
