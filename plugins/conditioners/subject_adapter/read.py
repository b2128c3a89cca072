"""What `subject_adapter` contributes to the branches of one scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import (
    BlockInsert,
    Box,
    Fixed,
    ImageTower,
    ModelView,
    Prepared,
    Scene,
    Subject,
    UserError,
    open_image,
    trained_networks,
)

from ...shared.subject_images import shown_subjects
from .networks import SubjectAdapterNetworks

if TYPE_CHECKING:
    from . import SubjectAdapter


@torch.no_grad()
def read(plugin: SubjectAdapter, scene: Scene, model: ModelView) -> Prepared:
    """Make the tokens of a scene's subjects and their nulls; see `SubjectAdapter`."""
    subjects = shown_subjects(scene, plugin.name)
    boxes = [box_of(subject, model) if plugin.use_box else None for subject in subjects]
    patches = _patches(subjects, model.image_tower(plugin.image_encoder, plugin.architecture))
    width = patches.shape[-1]
    networks = trained_networks(
        plugin.name,
        model,
        plugin.weights,
        lambda tensors, place: SubjectAdapterNetworks.from_tensors(
            tensors, model.unet, width, place, model.dtype
        ),
        width,
    )
    if len(subjects) > networks.places:
        raise UserError(
            f"subject '{subjects[networks.places].phrase}', field 'images'",
            f"at most {networks.places} subject(s) with images, the places of the weights of subject_adapter",
            str(len(subjects)),
        )
    whole = (0.0, 0.0, 1.0, 1.0)
    corners = torch.tensor([box or whole for box in boxes], device=model.device, dtype=torch.float32)
    boxed = torch.tensor([box is not None for box in boxes], device=model.device)
    present, null = (
        networks.tokens(patches[None], corners[None], known[None], boxed[None])[0]
        for known in (torch.ones_like(boxed), torch.zeros_like(boxed))
    )
    modules = networks.block_modules
    return Fixed((BlockInsert(modules, present),), (BlockInsert(modules, null),))


def box_of(subject: Subject, model: ModelView) -> Box | None:
    """A subject's box, or the tight one of its mask; None when it has neither.

    Raises:
        UserError: the mask has another size than the image, or no bright pixel.
    """
    if subject.box is not None or subject.mask is None:
        return subject.box
    region = model.region(subject)
    assert region is not None
    rows, columns = (region >= 0.5).nonzero(as_tuple=True)
    if not len(rows):
        raise UserError(f"subject '{subject.phrase}', field 'mask'", "bright pixels", "a dark image")
    height, width = model.size
    return (
        int(columns.min()) / width,
        int(rows.min()) / height,
        (int(columns.max()) + 1) / width,
        (int(rows.max()) + 1) / height,
    )


def _patches(subjects: Sequence[Subject], tower: ImageTower) -> Float[Tensor, "s p w"]:
    """Patches of each subject's first image."""
    images = [
        open_image(subject.images[0], f"subject '{subject.phrase}', field 'images'") for subject in subjects
    ]
    return tower(tower.pixels(images)).patches
