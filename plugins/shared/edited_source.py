"""The part of an image to edit that may change."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import Box, ModelView, Scene, UserError, open_mask, resize


def editable(scene: Scene, model: ModelView) -> Float[Tensor, "h w"]:
    """1 at the latents' positions that may change, 0 at those that keep the source.

    These are the scene's `edit_mask`, where at least half of a position's pixels are bright. Without one they are the
    subjects' masks and boxes; a box covers whole positions, down from each of its sides, as GLIGEN's code has it.

    Raises:
        UserError: the scene has neither an edit mask nor a subject with a place, or a mask is black or of another size.
    """
    if scene.edit_mask is not None:
        place = "scene, field 'edit_mask'"
        mask = open_mask(scene.edit_mask, model.size, place)
        if not bool(mask.any()):
            raise UserError(place, "a part that may change, in white", "a black image")
        return _positions(mask, model)
    parts = []
    for subject in scene.subjects:
        if subject.mask is not None:
            region = model.region(subject)
            assert region is not None
            parts.append(_positions(region, model))
        elif subject.box is not None:
            parts.append(_box(subject.box, model))
    if not parts:
        hint = "Say what may change."
        raise UserError("scene, field 'edit_mask'", "a mask, or a subject with a box or a mask", "none", hint)
    return torch.stack(parts).amax(dim=0)


def _positions(mask: Float[Tensor, "_h _w"], model: ModelView) -> Float[Tensor, "h w"]:
    return (resize(mask[None].to(model.device), model.latent_size)[0] >= 0.5).float()


def _box(box: Box, model: ModelView) -> Float[Tensor, "h w"]:
    height, width = model.latent_size
    left, top, right, bottom = box
    first_row, first_column = min(int(top * height), height - 1), min(int(left * width), width - 1)
    positions = torch.zeros(height, width, device=model.device)
    # a box within one position changes that one
    rows = slice(first_row, max(int(bottom * height), first_row + 1))
    positions[rows, first_column : max(int(right * width), first_column + 1)] = 1.0
    return positions
