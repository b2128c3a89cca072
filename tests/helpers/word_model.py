"""A small random model with an image tower and random weights of `pseudo_word` and `fusion_text`, and images."""

from __future__ import annotations

import atexit
import copy
import functools
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

import weft
from weft.core.sampling.branch_evaluator import PreparedScene
from weft.plugins.conditioners.fusion_text.networks import FusionTextNetworks
from weft.plugins.conditioners.pseudo_word.networks import PseudoWordNetworks
from weft.testing import random_model, random_tower

IMAGE, TEXT = 24, 32
"""Channels of the random tower's pooled features, and of the random text transformer."""


@functools.cache
def folder() -> Path:
    """The model's folder, once a process."""
    holder = tempfile.TemporaryDirectory()
    atexit.register(holder.cleanup)
    path = random_model(Path(holder.name))
    random_tower(path)
    (path / "weft").mkdir()
    pipe = weft.load(path, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = {
            "pseudo_word": PseudoWordNetworks.create(pipe.unet, IMAGE, TEXT, 2, r"attn2\.to_v|conv_in"),
            "fusion_text": FusionTextNetworks.create(pipe.text.model, pipe.unet, IMAGE, TEXT, 2),
        }
        for name, networks in made.items():
            for key, parameter in networks.named_parameters():
                if key.endswith("lora_B"):
                    torch.nn.init.normal_(parameter, std=0.1)
            torch.nn.init.normal_(networks.word.output.weight, std=0.1)
            save_file(networks.state_dict(), path / "weft" / f"{name}.safetensors")
    return path


@functools.cache
def model() -> weft.Pipeline:
    return weft.load(folder(), device="cpu")


def picture(seed: int) -> Image.Image:
    noise = torch.randint(0, 256, (24, 24, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.numpy().astype("uint8"))


def prepared(scene: weft.Scene, *conditioners: weft.Conditioner) -> PreparedScene:
    return PreparedScene(scene, model().view((32, 32)), {one.name: one for one in conditioners})


def word(networks, pictures) -> torch.Tensor:
    """The mean of the words of one subject's images, step by step."""
    tower = model().view((32, 32)).image_tower()
    words = []
    for one in pictures:
        feature = tower(tower.pixels([one])).pooled[0]
        feature = torch.nn.functional.layer_norm(
            feature, feature.shape, networks.word.norm.weight, networks.word.norm.bias
        )
        hidden = torch.nn.functional.gelu(networks.word.hidden.weight @ feature + networks.word.hidden.bias)
        words.append(networks.word.output.weight @ hidden + networks.word.output.bias)
    return torch.stack(words).mean(0)


def states_with_new_words(text_model, ids, words) -> torch.Tensor:
    """transformers' own states of a prompt that holds new words: rows added to the table of a copy of the model.

    Args:
        text_model: the text transformer.
        ids: token ids.
        words: new embeddings by position; they take the place of the ids there.
    """
    changed = copy.deepcopy(text_model)
    table = changed.get_input_embeddings().weight
    grown = torch.nn.Embedding.from_pretrained(torch.cat([table, torch.stack(list(words.values()))]))
    changed.set_input_embeddings(grown)
    ids = list(ids)
    for number, position in enumerate(words):
        ids[position] = len(table) + number
    return changed(torch.tensor([ids]))[0][0]


def merged(module, deltas):
    """A copy of a module with deltas added to its weights."""
    module = copy.deepcopy(module)
    for delta in deltas:
        weight = module.get_submodule(delta.path).weight
        weight.data += torch.einsum("or,ri...->oi...", delta.up.flatten(1), delta.down)
    return module
