"""What `mask_location` contributes to the branches of one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ...core.conditioner import Fixed, Prepared
from ...core.errors import UserError
from ...core.host import Host
from ...core.ports import InputChannels
from ...core.scene import Scene
from ...core.weights import trained
from .networks import MaskLocationNetworks, at_grid, background

if TYPE_CHECKING:
    from . import MaskLocation


@torch.no_grad()
def read(plugin: MaskLocation, scene: Scene, host: Host) -> Prepared:
    """Make the mask channel of a scene; see `MaskLocation`."""
    regions = _regions(plugin, scene, host)
    networks = trained(
        plugin.name,
        host,
        plugin.weights,
        lambda tensors, place: MaskLocationNetworks.from_tensors(tensors, host.unet, place, host.dtype),
    )
    known = torch.ones(1, len(regions), dtype=torch.bool, device=host.device)
    channel = background(regions[None], known)[0]
    return Fixed((InputChannels(networks.convolution, channel), *networks.deltas()))


def _regions(plugin: MaskLocation, scene: Scene, host: Host) -> Float[Tensor, "s h w"]:
    """Where the subjects that have a place are, at the latents' size.

    Raises:
        UserError: none has one, or one covers nothing.
    """
    regions = []
    for subject in scene.subjects:
        whole = host.region(subject)
        if whole is None:
            continue
        region = at_grid(whole[None, None], host.latent_size, plugin.resize)[0, 0]
        if not bool(region.any()):
            field, (height, width) = "box" if subject.mask is None else "mask", host.latent_size
            thin = plugin.resize == "nearest" and bool(whole.any())
            raise UserError(
                f"subject '{subject.phrase}', field '{field}'",
                f"a place that covers a position of the {width} x {height} latents",
                "none",
                "Set mask_location's field 'resize' to 'area'." if thin else "",
            )
        regions.append(region)
    if not regions:
        hint = "Set 'box' or 'mask' in a subject."
        place = f"mask_location, scene '{scene.prompt}'"
        raise UserError(place, "a subject with a box or a mask", "none", hint)
    return torch.stack(regions)
