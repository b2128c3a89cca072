"""{{ about }}"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from weft import plugin

FOLDER = Path(__file__).parent / "files"
"""In diffusers layout: unet, vae, text_encoder, tokenizer and scheduler, with weights in safetensors."""


@plugin.hookimpl
def weft_models() -> Mapping[str, plugin.ModelCard]:
    return {"{{ name }}": plugin.ModelCard("{{ about }}", FOLDER)}
