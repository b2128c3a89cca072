"""The line that AUTOMATIC1111's web interface writes into its images, which many viewers show. Free of torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from ..api.generation_settings import GenerationSettings
from ..api.guidance import Guidance
from ..api.schedulers import scheduler_entry


def parameters_line(
    settings: GenerationSettings, prompt: str, seed: int, model: str, sha256: str, version: str
) -> str:
    """The prompt, the negative prompt when there is one, and a line of settings.

    Args:
        model: its name, without folders.
        sha256: of its weights; viewers show the first ten digits.
        version: of Weft.
    """
    sampler = settings.sampler
    shown: dict[str, Any] = {
        "Steps": sampler.steps,
        "Sampler": None if sampler.scheduler is None else scheduler_entry(sampler.scheduler).a1111,
        "CFG scale": _first(settings.guidance, "scale"),
        "Seed": seed,
        "Size": f"{sampler.width}x{sampler.height}",
        "Model hash": sha256[:10],
        "Model": model,
        "Version": f"weft {version}",
    }
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in shown.items() if value not in (None, ""))
    negative = _first(settings.guidance, "negative_prompt")
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), line])


def _first(guidance: Sequence[Guidance], field: str) -> Any:
    """The value of the first strategy that has this parameter."""
    named = (one for one in guidance if field in [item.name for item in dataclasses.fields(one)])
    return next((getattr(one, field) for one in named), None)


def _quoted(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
