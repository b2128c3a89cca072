"""Stable Diffusion 1.x and 2.x: one CLIP text transformer, nothing added to the time embedding. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

from ..api.family import Configuration, Family, TextCondition
from ..errors import UserError
from .blocks import paths_of_size
from .half_precision import in_range

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..api.ports import TokenEmbeddings
    from ..api.text_encoder import PromptTokens, TextEncoder

_ABSENT = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
    "cross_attention_norm",
)

_FALSE = (
    "class_embeddings_concat",
    "dual_cross_attention",
    "mid_block_only_cross_attention",
    "only_cross_attention",
)

_BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
}

_MARKS = {
    "unet": "model.diffusion_model.input_blocks.0.0.weight",
    "vae": "first_stage_model.encoder.conv_in.weight",
    "text_encoder": "cond_stage_model.transformer.",
}
"""The beginnings of names that a single file of version 1.x has, by the network that they are of."""

_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


@final
class StableDiffusion1(Family):
    """Stable Diffusion 1.x, and 2.x in diffusers layout (Rombach et al. 2022, arXiv 2112.10752)."""

    name: ClassVar[str] = "sd1"
    card: ClassVar[str] = "sd15"
    towers: ClassVar[Mapping[str, str]] = {"text_encoder": "tokenizer"}

    def recognises(self, unet: Configuration) -> bool:
        return all(unet.get(name) is None for name in _ABSENT)

    def recognises_file(self, names: Collection[str]) -> bool:
        return all(any(name.startswith(mark) for name in names) for mark in _MARKS.values())

    def check(self, unet: Configuration) -> None:
        checks: list[tuple[str, str, bool]] = [
            *((name, "null", unet.get(name) is not None) for name in _ABSENT),
            *((name, "false", any(_listed(unet.get(name)))) for name in _FALSE),
            ("attention_type", "'default'", unet.get("attention_type") not in (None, "default")),
            *(
                (
                    name,
                    f"among {', '.join(map(str, known))}",
                    not {*_listed(unet.get(name, known[0]))} <= {*known},
                )
                for name, known in _BLOCKS.items()
            ),
        ]
        for name, expected, wrong in checks:
            if wrong:
                place = f"UNet configuration, field '{name}'"
                raise UserError(
                    place, f"{expected}, as in Stable Diffusion 1.x and 2.x", f"{unet[name]!r:.80}"
                )
        channels = unet.get("in_channels", 4), unet.get("out_channels", 4)
        if channels[0] != channels[1]:
            hint = "A model that was made to inpaint reads more; conditioners bring channels of their own."
            place = "UNet configuration, field 'in_channels'"
            raise UserError(place, f"{channels[1]}, as many as it predicts", repr(channels[0]), hint)

    def split(
        self,
        tensors: Mapping[str, Tensor],
        configurations: Mapping[str, Configuration],
        file: str,
        without: Collection[str] = (),
    ) -> dict[str, dict[str, Tensor]]:
        from diffusers.loaders.single_file_utils import (
            convert_ldm_clip_checkpoint,
            convert_ldm_unet_checkpoint,
            convert_ldm_vae_checkpoint,
        )

        for part, mark in _MARKS.items():
            if part not in without and not any(name.startswith(mark) for name in tensors):
                expected = f"a Stable Diffusion 1.x checkpoint with '{mark}' ({part})"
                raise UserError(f"file '{file}'", expected, "none")
        whole = dict(tensors)
        convert: dict[str, Callable[[], dict[str, Tensor]]] = {
            "unet": lambda: convert_ldm_unet_checkpoint(whole, dict(configurations["unet"])),
            "vae": lambda: convert_ldm_vae_checkpoint(whole, dict(configurations["vae"])),
            "text_encoder": lambda: convert_ldm_clip_checkpoint(whole),
        }
        try:  # what comes of diffusers' conversion is compared name by name and shape by shape afterwards
            return {part: run() for part, run in convert.items() if part not in without}
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UserError(
                f"file '{file}'", "the key names of Stable Diffusion 1.x", f"others ({error})"
            ) from None

    def renamed(self, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if part == "text_encoder":
            names = {name: name.removeprefix("text_model.") for name in tensors}
            drop = ("position_ids", "text_projection.weight")
            return {new: tensors[name] for name, new in names.items() if not new.endswith(drop)}
        if part == "vae":
            if any(name.startswith(("encoder.down.", "first_stage_model.")) for name in tensors):
                tensors = _vae_of_file(tensors)
            renamed = {}
            for name, tensor in tensors.items():
                if ".attentions." in name:
                    for old, new in _OLD_ATTENTION.items():
                        name = name.replace(old, new)
                    if ".to_" in name and name.endswith("weight"):
                        tensor = tensor.flatten(1)  # 1x1 convolutions in the oldest files
                renamed[name] = tensor
            return renamed
        return dict(tensors)

    def text_encoder(self, towers: Mapping[str, tuple[Any, Any]]) -> TextEncoder:
        from ..api.text_encoder import TextEncoder

        return TextEncoder(*towers["text_encoder"])

    def condition(
        self,
        text: TextEncoder,
        tokens: PromptTokens,
        embeddings: Sequence[TokenEmbeddings],
        size: tuple[int, int],
    ) -> TextCondition:
        return TextCondition(text.encode(tokens, embeddings))

    def added_embedding(
        self, unet: Any, added: Mapping[str, Float[Tensor, "r ..."]]
    ) -> Float[Tensor, "r c"] | None:
        return None

    def map_paths(self, unet: Any, latent_size: tuple[int, int], positions: int) -> frozenset[str]:
        return paths_of_size(unet, latent_size, positions)

    def native_size(self, unet: Configuration, vae: Configuration) -> tuple[int, int]:
        side = int(unet["sample_size"]) * self.latent_factor(vae)
        return side, side

    def latent_factor(self, vae: Configuration) -> int:
        return int(2 ** (len(vae["block_out_channels"]) - 1))

    def to_latents(self, vae: Any, pixels: Float[Tensor, "s 3 _h _w"]) -> Float[Tensor, "s c h w"]:
        latents = in_range(vae, lambda one: one.encode(pixels.to(one.device, one.dtype)).latent_dist.mode())
        return latents * float(vae.config["scaling_factor"])

    def to_pixels(self, vae: Any, latents: Float[Tensor, "s c h w"]) -> Float[Tensor, "s 3 _h _w"]:
        scaled = latents / vae.config["scaling_factor"]
        return in_range(vae, lambda one: one.decode(scaled.to(one.dtype), return_dict=False)[0])


def _vae_of_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors in diffusers' names, of a file with those of the original repository.

    Raises:
        UserError: its names are others.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = {name.split(".")[2] for name in tensors if name.startswith("encoder.down.")}
    levels |= {name.split(".")[3] for name in tensors if name.startswith("first_stage_model.encoder.down.")}
    try:
        converted: dict[str, Tensor] = convert_ldm_vae_checkpoint(
            dict(tensors), {"down_block_types": [""] * len(levels), "up_block_types": [""] * len(levels)}
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError("vae", "the key names of Stable Diffusion 1.x", f"others ({error})") from None
    return converted


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
