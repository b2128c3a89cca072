"""Six small conditioners, one a port, as a plugin author would write them: torch is imported where it is needed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

from weft.core.api.conditioner import Conditioner, Fixed, Prepared
from weft.core.errors import UserError
from weft.core.scene import record

if TYPE_CHECKING:
    from weft.core.api.model_view import ModelView
    from weft.core.api.ports import Contribution
    from weft.core.api.text_encoder import PromptTokens
    from weft.core.scene import Scene


@record
class WordSwap(Conditioner):
    """Port 1: writes the embedding of one word over the subject's.

    Args:
        word: whose first token is taken.
    """

    name: ClassVar[str] = "word_swap"
    word: str = "car"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        return _WordSwap(self.word, scene, model)


class _WordSwap(Prepared):
    def __init__(self, word: str, scene: Scene, model: ModelView) -> None:
        ids = [
            i
            for i, (a, b) in zip(model.text.tokens(word).ids, model.text.tokens(word).offsets, strict=True)
            if b > a
        ]
        self.vector = model.text.model.get_input_embeddings().weight[ids[0]]
        self.scene = scene

    def present(self, text: PromptTokens) -> Contribution:
        import torch

        from weft.core.api.ports import TokenEmbeddings

        entries = []
        for subject in self.scene.subjects:
            positions = text.positions(subject)
            if positions is not None:
                vectors = self.vector.expand(len(positions), -1)
                entries.append(TokenEmbeddings(torch.tensor(positions), vectors))
        return tuple(entries)

    def absent(self, text: PromptTokens) -> Contribution:
        return ()


@record
class OtherPrompt(Conditioner):
    """Port 2: writes the text states of another prompt over all of the prompt's.

    Args:
        prompt: the other one.
    """

    name: ClassVar[str] = "other_prompt"
    prompt: str = "two boats at night"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import TextStates

        states = model.text.encode(model.text.tokens(self.prompt))
        return Fixed((TextStates(torch.arange(len(states)), states),))


@record
class EchoTokens(Conditioner):
    """Port 2: the prompt's own states once more, as extra context tokens."""

    name: ClassVar[str] = "echo_tokens"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.ports import ContextTokens

        return Fixed((ContextTokens(model.text.encode(model.text.tokens(scene.prompt))),))


@record
class BoxedWords(Conditioner):
    """Port 2: a subject's words are read inside its box only."""

    name: ClassVar[str] = "boxed_words"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import TextRegion

        entries = []
        for subject in scene.subjects:
            mask, positions = model.region(subject), model.text.tokens(scene.prompt).positions(subject)
            if mask is not None and positions is not None:
                entries.append(TextRegion(torch.tensor(positions), mask))
        return Fixed(tuple(entries))


@record
class Fuser(Conditioner):
    """Port 3: gated self-attention to a few random tokens, with its own null."""

    name: ClassVar[str] = "fuser"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import BlockInsert

        modules = fusers(model.unet, model.text.width)
        tokens = torch.randn(5, model.text.width, generator=torch.Generator().manual_seed(0))
        return Fixed(
            (BlockInsert(modules, tokens.to(model.device)),),
            (BlockInsert(modules, torch.zeros_like(tokens)),),
        )


@record
class MapBlur(Conditioner):
    """Port 3: replaces every attention map by its mean over positions."""

    name: ClassVar[str] = "map_blur"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.map_edits import MapEdit

        return Fixed((MapEdit(_blurred),))


def _blurred(maps, call):
    return maps.mean(dim=2, keepdim=True).expand_as(maps)


@record
class Bumps(Conditioner):
    """Port 4: constant residuals on every skip, on the middle block and on every down block."""

    name: ClassVar[str] = "bumps"
    null = "none"  # as no test here is of a real method

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import FeatureResiduals

        return Fixed((FeatureResiduals(bump_residuals(model.unet), torch.full((1,), 0.1)),))


@record
class SubjectChannel(Conditioner):
    """Port 5: the subjects' boxes as one more input channel; its null is a channel of zeros."""

    name: ClassVar[str] = "subject_channel"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        import torch

        from weft.core.api.ports import InputChannels
        from weft.core.scene.pixels import resize

        masks = [mask for subject in scene.subjects if (mask := model.region(subject)) is not None]
        if not masks:
            raise UserError("subject_channel", "a subject with a box or a mask", "none")
        channel = resize(torch.stack(masks), model.latent_size).amax(0, keepdim=True)
        convolution = extra_convolution(model.unet)
        return Fixed(
            (InputChannels(convolution, channel),), (InputChannels(convolution, torch.zeros_like(channel)),)
        )


@record
class RandomLora(Conditioner):
    """Port 6: a low-rank delta on a linear layer and one on a convolution of the UNet, and one in the text encoder."""

    name: ClassVar[str] = "random_lora"
    null = "none"

    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        from weft.core.api.ports import WeightDelta

        deltas = []
        for path, (up, down) in lora(model.unet, UNET_LAYERS).items():
            deltas.append(WeightDelta(path, up, down))
        for path, (up, down) in lora(model.text.model, TEXT_LAYERS).items():
            deltas.append(WeightDelta(path, up, down, target="text_encoder"))
        return Fixed(tuple(deltas))


UNET_LAYERS = (
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v",
    "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
)
TEXT_LAYERS = ("encoder.layers.1.mlp.fc1",)


@cache
def lora(model, layers):
    """Random (up, down) pairs of rank 2, the same every time."""
    import torch

    made = {}
    generator = torch.Generator().manual_seed(7)
    for path in layers:
        weight = model.get_submodule(path).weight
        down = torch.randn(2, *weight.shape[1:], generator=generator) * 0.1
        up = torch.randn(weight.shape[0], 2, *[1] * (weight.ndim - 2), generator=generator) * 0.1
        made[path] = (up, down)
    return made


@cache
def fusers(unet, width: int):
    """diffusers' gated self-attention for every block, with open gates, the same every time."""
    import torch
    from diffusers.models.attention import GatedSelfAttentionDense

    from weft.core.families.blocks import cross_attention_paths

    modules = {}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for path, layer in cross_attention_paths(unet).items():
            inner = layer.to_q.out_features
            fuser = (
                GatedSelfAttentionDense(inner, width, layer.heads, inner // layer.heads).to(unet.dtype).eval()
            )
            torch.nn.init.constant_(fuser.alpha_attn, 0.7)
            torch.nn.init.constant_(fuser.alpha_dense, -0.4)
            modules[path] = OpenFuser(fuser)
    return modules


class OpenFuser:
    """Scales the whole residual of a fuser by the row's strength."""

    def __init__(self, fuser) -> None:
        self.fuser = fuser

    def __call__(self, hidden, state, strength, grid):
        changed = self.fuser(hidden, state)
        # at strength 1 the fuser's own sum, so that it stays diffusers' bit for bit
        if bool((strength == 1).all()):
            return changed
        return hidden + strength.view(-1, 1, 1) * (changed - hidden)


@cache
def bump_residuals(unet):
    """A residual module whose tensors are all the state's number."""
    from weft.core.api.ports import Residuals

    def module(latents, timestep, context, state):
        rows, _, height, width = latents.shape
        channels = unet.config.block_out_channels
        sizes = [(channels[0], height, width)]
        blocks = []
        for level, block in enumerate(unet.down_blocks):
            blocks.append((channels[level], height, width))
            sizes += [(channels[level], height, width)] * len(block.resnets)
            if block.downsamplers is not None:
                height, width = -(-height // 2), -(-width // 2)
                sizes.append((channels[level], height, width))
        fill = state.to(latents).view(rows, 1, 1, 1)
        skips = tuple(fill.expand(rows, *size).clone() for size in sizes)
        middle = fill.expand(rows, channels[-1], height, width).clone()
        return Residuals(skips, middle, tuple(fill.expand(rows, *size).clone() for size in blocks))

    return module


@cache
def extra_convolution(unet):
    """A convolution from one channel to those of ``conv_in``, the same every time."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(2)
        return (
            torch.nn.Conv2d(1, unet.conv_in.out_channels, 3, padding=1).to(unet.dtype).requires_grad_(False)
        )


ALL = (WordSwap, OtherPrompt, EchoTokens, BoxedWords, Fuser, MapBlur, Bumps, SubjectChannel, RandomLora)
