"""Checks for plugin authors; see `parametrize_with_checks`."""

from .core.testing import (
    Case,
    SecondPrompt,
    parametrize_with_checks,
    random_model,
    random_pipeline,
    random_tower,
    random_unet,
)

__all__ = [
    "Case",
    "SecondPrompt",
    "parametrize_with_checks",
    "random_model",
    "random_pipeline",
    "random_tower",
    "random_unet",
]
