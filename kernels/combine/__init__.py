"""A weighted sum of predictions and the scheduler's update of the latents, in one operation."""

from .dispatch import combine_and_step
from .reference import reference
from .update import Update

__all__ = ["Update", "combine_and_step", "reference"]
