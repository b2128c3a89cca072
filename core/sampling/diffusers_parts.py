"""Whether the parts of a diffusers pipeline are what the engine carries out: nothing of theirs is left out unsaid."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from ..errors import UserError

_PARTS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
_PROCESSORS = ("AttnProcessor", "AttnProcessor2_0")


def check_parts(pipe: Any) -> None:
    """Refuse a pipeline of another kind, and one in which something was installed.

    Raises:
        UserError: with the part.
    """
    for name, kind in _PARTS.items():
        part: Any = getattr(pipe, name, None)
        if type(part) is not kind:
            hint = "Stable Diffusion 1.x and 2.x are known."
            raise UserError(f"the pipeline's {name}", f"a {kind.__name__}", type(part).__name__, hint)
        for path, module in part.named_modules():
            _check_module(name, path, module)
    if getattr(pipe, "text_encoder_2", None) is not None:
        raise UserError("the pipeline", "one text encoder", "two", "Stable Diffusion 1.x and 2.x are known.")
    if not getattr(pipe.tokenizer, "is_fast", False):
        raise UserError("the pipeline's tokenizer", "a fast one", type(pipe.tokenizer).__name__)
    for path, processor in pipe.unet.attn_processors.items():
        if type(processor).__name__ not in _PROCESSORS:
            hint = "Unload what brought it; conditioners bring adapters here."
            raise UserError(
                f"the pipeline's unet, '{path}'", "its own processor", type(processor).__name__, hint
            )


def _check_module(part: str, path: str, module: nn.Module) -> None:
    place = f"the pipeline's {part}, '{path}'"
    if hasattr(module, "base_layer"):
        hint = "Call pipe.fuse_lora() and pipe.unload_lora_weights(), or give the LoRA to a conditioner."
        raise UserError(place, "a layer without an adapter", type(module).__name__, hint)
    if hasattr(module, "_hf_hook"):
        raise UserError(
            place, "weights in their place", "weights that are moved when they are used", "Call pipe.to."
        )
