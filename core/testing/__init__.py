"""What every plugin must keep to, as checks that its own test file runs."""

from .case import Case
from .checks import CHECKS, parametrize_with_checks
from .conditioner import SecondPrompt
from .model import random_model, random_pipeline, random_unet
from .tower import random_tower

__all__ = [
    "CHECKS",
    "Case",
    "SecondPrompt",
    "parametrize_with_checks",
    "random_model",
    "random_pipeline",
    "random_tower",
    "random_unet",
]
