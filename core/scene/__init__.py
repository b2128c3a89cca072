"""What a user describes: scenes and subjects, pure data, and the images that they hold."""

from .record import record
from .scene import Box, ImageSource, Scene, Subject, locate

__all__ = ["Box", "ImageSource", "Scene", "Subject", "locate", "record"]
