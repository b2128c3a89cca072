"""What a listener hears while items are drawn. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL import Image

from ..api.generation_settings import GenerationSettings
from ..errors import WeftError
from .job import Item


class Listener(ABC):
    """Hears, in the process that asked for the images, of every one of them. What it raises ends the drawing."""

    @abstractmethod
    def drawn(self, item: Item, image: Image.Image, settings: GenerationSettings) -> None:
        """An image is finished."""

    @abstractmethod
    def failed(self, items: Sequence[Item], error: WeftError) -> None:
        """These images will not be drawn."""

    @abstractmethod
    def working(self, done: float, text: str) -> None:
        """Beyond the finished images, so much of a batch is done, counted in images; and what is going on."""
