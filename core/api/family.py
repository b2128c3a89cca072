"""What differs from one family of models to the next, such as Stable Diffusion 1.x, behind one class. Free of torch.

A family says how its files are read, how a prompt becomes what the UNet is conditioned on, and how pixels become
latents. All else is the same for every family: ports, branches, guidance, sampling.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from .ports import TokenEmbeddings
    from .text_encoder import PromptTokens, TextEncoder

Configuration = Mapping[str, Any]
"""What a ``config.json`` of a diffusers layout holds."""


@dataclass(frozen=True)
class TextCondition:
    """What one prompt gives the UNet.

    Args:
        context: text states, for cross-attention.
        added: what enters by the time embedding, by name; for example a pooled state, and the size of the image.
    """

    context: Float[Tensor, "t d"]
    added: Mapping[str, Float[Tensor, "..."]] = field(default_factory=dict)


class Family(ABC):
    """A family of models. Its objects hold nothing.

    Attributes:
        name: of the family.
        card: the model whose configurations a single file of the family is read with.
        towers: the folders of its text transformers, each with that of its tokenizer.
    """

    name: ClassVar[str]
    card: ClassVar[str]
    towers: ClassVar[Mapping[str, str]]

    @abstractmethod
    def recognises(self, unet: Configuration) -> bool:
        """Whether a UNet of this configuration is of the family, or is to be refused by its `check`."""

    @abstractmethod
    def recognises_file(self, names: Collection[str]) -> bool:
        """Whether a single file whose tensors have these names is of the family."""

    @abstractmethod
    def check(self, unet: Configuration) -> None:
        """Refuse a UNet with parts that the forward pass does not carry out for this family.

        Raises:
            UserError: with the field of the configuration.
        """

    @abstractmethod
    def split(
        self,
        tensors: Mapping[str, Tensor],
        configurations: Mapping[str, Configuration],
        file: str,
        without: Collection[str] = (),
    ) -> dict[str, dict[str, Tensor]]:
        """The state dicts of the networks in a single file, by their folders in a diffusers layout.

        Args:
            tensors: of the file.
            configurations: of the networks, by the same folders.
            file: its name, for the error.
            without: networks that are read from elsewhere.

        Raises:
            UserError: the file is not a whole model of the family.
        """

    @abstractmethod
    def renamed(self, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A network's tensors by the names that the installed libraries have, whichever version wrote the file."""

    @abstractmethod
    def text_encoder(self, towers: Mapping[str, tuple[Any, Any]]) -> TextEncoder:
        """The encoder made of (tokenizer, text transformer) pairs, by the folders in `towers`."""

    @abstractmethod
    def condition(
        self,
        text: TextEncoder,
        tokens: PromptTokens,
        embeddings: Sequence[TokenEmbeddings],
        size: tuple[int, int],
    ) -> TextCondition:
        """What a prompt gives the UNet, with token embeddings replaced, for an image of (height, width) pixels."""

    @abstractmethod
    def added_embedding(
        self, unet: Any, added: Mapping[str, Float[Tensor, "r ..."]]
    ) -> Float[Tensor, "r c"] | None:
        """What `TextCondition.added` of all rows adds to their time embedding; None for nothing."""

    @abstractmethod
    def map_paths(self, unet: Any, latent_size: tuple[int, int], positions: int) -> frozenset[str]:
        """The transformer blocks whose maps have the finest size of at most so many positions, for such latents."""

    @abstractmethod
    def native_size(self, unet: Configuration, vae: Configuration) -> tuple[int, int]:
        """(height, width) that the model was trained at, in pixels."""

    @abstractmethod
    def latent_factor(self, vae: Configuration) -> int:
        """Pixels a latent position, along one side."""

    @abstractmethod
    def to_latents(self, vae: Any, pixels: Float[Tensor, "s 3 _h _w"]) -> Float[Tensor, "s c h w"]:
        """Latents of pixels in [-1, 1], the mean of what the autoencoder gives, scaled as the UNet reads them."""

    @abstractmethod
    def to_pixels(self, vae: Any, latents: Float[Tensor, "s c h w"]) -> Float[Tensor, "s 3 _h _w"]:
        """Pixels, about in [-1, 1], of latents as the UNet reads them."""
