"""A conditioner for Weft with trained weights: subjects in the colour of their reference image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft import plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "swatch.safetensors"
"""For the text encoder of the model `tiny`; `train.py` made them."""


@plugin.record
class Swatch(plugin.Conditioner):
    """Gives a subject the mean colour of its first reference image, as if the prompt named it.

    A linear map turns the colour into the change that a colour word makes to the text state of the word
    behind it.

    Args:
        weights: a ``.safetensors`` file with ``weight`` (width of the text states, 3) and ``bias``; those
            for `tiny` by default.
    """

    name = "swatch"
    scene_fields = frozenset({"subjects.images"})

    weights: Path | None = None

    def prepare(self, scene: plugin.Scene, model: plugin.ModelView) -> plugin.Prepared:
        if not any(subject.images for subject in scene.subjects):
            raise plugin.UserError(self.name, "a subject with a reference image", "none in the scene")
        width = model.text.width

        def build(tensors: Mapping[str, Tensor], place: str) -> nn.Linear:
            from torch import nn

            network = nn.Linear(3, width)
            plugin.fill_module(network, tensors, place, model.dtype)
            return network

        network = plugin.trained_networks(self.name, model, self.weights or WEIGHTS, build, width)
        colours = {
            number: mean_colour(subject.images[0]).to(model.device, model.dtype)
            for number, subject in enumerate(scene.subjects)
            if subject.images
        }
        changes = {number: network(colour) for number, colour in colours.items()}
        return Coloured(scene, model, changes)


@dataclass(frozen=True)
class Coloured(plugin.Prepared):
    """The changes of one scene's subjects, d numbers each, by the subjects' numbers."""

    scene: plugin.Scene
    model: plugin.ModelView
    changes: Mapping[int, Tensor]

    def present(self, text: plugin.PromptTokens) -> plugin.Contribution:
        states = self.model.text.encode(text)  # t d
        entries = []
        for number, change in self.changes.items():
            positions = text.positions(self.scene.subjects[number])
            if positions is not None:  # a branch's prompt may be without the phrase
                places = states.new_tensor(positions).long()
                entries.append(plugin.TextStates(places, states[places] + change))
        return tuple(entries)

    def absent(self, text: plugin.PromptTokens) -> plugin.Contribution:
        return ()  # without the colour the prompt says what it says: its states are the null


def mean_colour(image: plugin.ImageSource) -> Tensor:
    """Red, green and blue of an image, each in [0, 1]."""
    return plugin.to_tensor(plugin.open_image(image, "swatch")).mean(dim=(-2, -1))


@plugin.hookimpl
def weft_plugins() -> list[type[plugin.Plugin]]:
    return [Swatch]
