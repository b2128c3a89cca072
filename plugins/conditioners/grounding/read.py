"""What grounding contributes to the branches of one scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from weft.plugin import (
    BlockInsert,
    Contribution,
    Entry,
    Fixed,
    InputChannels,
    ModelView,
    Prepared,
    PromptTokens,
    Scene,
    Subject,
    TextEncoder,
    UserError,
    did_you_mean,
    open_image,
    trained_networks,
)

from ...shared.edited_source import editable
from . import KEYPOINTS
from .features import phrase_features, projected, read_projection
from .networks import GroundingNetworks
from .tokenizers import KeypointTokenizer, TextImageTokenizer, TextTokenizer

if TYPE_CHECKING:
    from . import Grounding


@torch.no_grad()
def read(plugin: Grounding, scene: Scene, model: ModelView) -> Prepared:
    """Make the tokens of a scene's subjects and their nulls; see `Grounding`."""
    networks = networks_of(plugin, model)
    _check_mode(plugin, networks, model)
    # the null row goes first, as in a batch with classifier-free guidance
    null, present = (
        _keypoints(networks, scene, model)
        if plugin.mode == "keypoints"
        else _boxes(plugin, networks, scene, model)
    )
    shared: tuple[Entry, ...] = ()
    if networks.inpainting is not None:
        kept = 1.0 - editable(scene, model)
        channels = torch.cat([model.source_latents(scene) * kept, kept[None]])
        shared = (InputChannels(networks.inpainting, channels), *networks.inpainting.deltas())
    modules = networks.block_modules
    fixed = Fixed((BlockInsert(modules, present), *shared), (BlockInsert(modules, null), *shared))
    if plugin.mode == "keypoints":
        return fixed
    phrases = tuple(subject.phrase for subject in scene.subjects if subject.box is not None)
    return _Phrases(fixed, model.text, phrases, lambda text: _boxes(plugin, networks, scene, model, text)[1])


class _Phrases(Prepared):
    """What was read of a scene, and read anew where a branch's prompt knows words that a phrase holds."""

    def __init__(
        self,
        plain: Fixed,
        encoder: TextEncoder,
        phrases: tuple[str, ...],
        read: Callable[[PromptTokens], Float[Tensor, "m c"]],
    ) -> None:
        self._plain, self._encoder, self._phrases, self._read = plain, encoder, phrases, read

    @torch.no_grad()
    def present(self, text: PromptTokens) -> Contribution:
        insert, *shared = self._plain.when_present
        assert isinstance(insert, BlockInsert)
        if not any(self._encoder.tokens(phrase, text.words).embeddings for phrase in self._phrases):
            return self._plain.when_present
        return (BlockInsert(insert.modules, self._read(text)), *shared)

    def absent(self, text: PromptTokens) -> Contribution:
        return self._plain.when_absent


def networks_of(plugin: Grounding, model: ModelView) -> GroundingNetworks:
    """The trained networks of a conditioner for a model."""
    return trained_networks(
        plugin.name,
        model,
        plugin.weights,
        lambda tensors, place: GroundingNetworks.from_tensors(tensors, model.unet, place),
        within_unet=True,
    )


def _boxes(
    plugin: Grounding,
    networks: GroundingNetworks,
    scene: Scene,
    model: ModelView,
    like: PromptTokens | None = None,
) -> Float[Tensor, "2 m c"]:
    subjects = [subject for subject in scene.subjects if subject.box is not None]
    count, places = len(subjects), plugin.max_objects

    def filled(rows: Float[Tensor, "n d"], of: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows of some subjects in their places, for both forms, and which places are known in each."""
        values = rows.new_zeros(2, places, rows.shape[-1])
        known = torch.zeros(2, places, device=rows.device)
        values[:, list(of)] = rows
        known[1, list(of)] = 1.0
        return values, known

    everybody = range(count)
    wide = torch.promote_types(model.dtype, torch.float32)  # half precision is too coarse for places
    where = torch.tensor([subject.box for subject in subjects], device=model.device, dtype=wide)
    boxes, _ = filled(where, everybody)
    phrases = phrase_features(model.text, [one.phrase for one in subjects], like).to(model.device)
    text, text_known = filled(phrases, everybody)
    tokenizer = networks.tokenizer
    if isinstance(tokenizer, TextTokenizer):
        return networks.tokens(boxes, text, text_known)
    assert isinstance(tokenizer, TextImageTokenizer)
    pictured = [number for number in everybody if subjects[number].images and plugin.mode != "text"]
    if plugin.mode == "image":
        text_known = torch.zeros_like(text_known)
    width = len(tokenizer.null_image_feature)
    pictures = _pictures(plugin, [subjects[number] for number in pictured], width, model)
    image, image_known = filled(pictures, pictured)
    return networks.text_image_tokens(boxes, text, text_known, image, image_known)


def _pictures(
    plugin: Grounding, subjects: Sequence[Subject], width: int, model: ModelView
) -> Float[Tensor, "n {width}"]:
    """One feature a subject, of the mean of its images' pooled features."""
    if not subjects:
        return torch.zeros(0, width, device=model.device, dtype=model.dtype)
    tower = model.image_tower(plugin.image_encoder, plugin.architecture)
    pooled = []
    for subject in subjects:
        place = f"subject '{subject.phrase}', field 'images'"
        images = [open_image(image, place) for image in subject.images]
        pooled.append(tower(tower.pixels(images)).pooled.mean(dim=0))
    features = torch.stack(pooled)
    if plugin.image_projection is not None:
        features = projected(features, read_projection(plugin.image_projection))
    if features.shape[-1] != width:
        hint = "Official weights want the field 'image_projection'."
        raise UserError(
            "grounding, image features",
            f"{width} channels, as the weights have",
            str(features.shape[-1]),
            hint,
        )
    return features


def _keypoints(networks: GroundingNetworks, scene: Scene, model: ModelView) -> Float[Tensor, "2 m c"]:
    tokenizer = networks.tokenizer
    assert isinstance(tokenizer, KeypointTokenizer)
    persons, kinds = len(tokenizer.person_embeddings), len(tokenizer.keypoint_embeddings)
    subjects = [subject for subject in scene.subjects if subject.keypoints]
    if len(subjects) > persons:
        raise UserError("grounding", f"at most {persons} subject(s) with keypoints", str(len(subjects)))
    wide = torch.promote_types(model.dtype, torch.float32)  # half precision is too coarse for places
    points = torch.zeros(2, persons, kinds, 2, device=model.device, dtype=wide)
    known = torch.zeros(2, persons, kinds, device=model.device)
    names = KEYPOINTS[:kinds]
    for person, subject in enumerate(subjects):
        for name, point in subject.keypoints.items():
            if name not in names:
                place = f"subject '{subject.phrase}', field 'keypoints'"
                raise UserError(
                    place, f"names among {', '.join(names)}", f"'{name}'", did_you_mean(name, names)
                )
            points[:, person, names.index(name)] = torch.tensor(point, device=model.device, dtype=wide)
            known[1, person, names.index(name)] = 1.0
    return networks.keypoint_tokens(points.flatten(1, 2), known.flatten(1, 2))


def _check_mode(plugin: Grounding, networks: GroundingNetworks, model: ModelView) -> None:
    tokenizer = networks.tokenizer
    modes: tuple[str, ...]
    if isinstance(tokenizer, TextTokenizer):
        modes, width = ("text",), len(tokenizer.null_positive_feature)
    elif isinstance(tokenizer, TextImageTokenizer):
        modes, width = ("text", "image", "text_image"), len(tokenizer.null_text_feature)
    else:
        modes, width = ("keypoints",), model.text.width
    if plugin.mode not in modes:
        wanted = " or ".join(f"'{mode}'" for mode in modes)
        raise UserError("grounding, field 'mode'", f"{wanted}, which these weights know", f"'{plugin.mode}'")
    if width != model.text.width:
        raise UserError(
            "grounding, weights", f"phrases of {model.text.width} channels, as the text encoder's", str(width)
        )
