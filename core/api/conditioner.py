"""Conditioners: how one kind of knowledge in a scene enters the UNet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ..scene.record import record
from ..scene.region import AnyRegion
from .plugin import Plugin
from .schedule import Schedule, factor_at

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..scene.scene import Scene
    from .model_view import ModelView
    from .ports import Contribution
    from .step import Step
    from .text_encoder import PromptTokens


@record
class Conditioner(Plugin):
    """Base of every conditioner.

    Args:
        strength: 1 is as trained; 0 is the same as leaving the conditioner out, bit for bit.
        schedule: a factor of the strength over the steps, of the present and of the absent form alike: a number; an
            interval (start, end) of fractions of the steps outside which the conditioner takes no part; or points
            ``{0: 1, 0.5: 0}`` that are joined by straight lines. A step is where its beginning is: ``index / total``.
        region: where in the image it acts: a subject's phrase, for its mask or box; ``"rest"``, for what is no
            subject's; an open image as a mask; or a `Region`. Each port says what it means there. None is everywhere.
    """

    kind: ClassVar[Literal["conditioner", "guidance"]] = "conditioner"
    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}
    null: ClassVar[Literal["same", "own", "none"] | None] = None
    """What its absent form is: the present one, a null of its own, or nothing. To be said where the absent form lacks
    the residuals, channels or weight deltas of the present one, as that is wrong for most; see docs/routing.md."""

    strength: float = Field(default=1.0, description="1 is as trained, 0 is absence", kw_only=True)
    schedule: Schedule = Field(default=1.0, description="factor of the strength over the steps", kw_only=True)
    region: AnyRegion | None = Field(default=None, description="where in the image it acts", kw_only=True)

    def factor(self, step: Step) -> float:
        """What the strength is multiplied by at a step. A method whose released code counts steps otherwise overrides
        this, and says so."""
        return factor_at(self.schedule, step.index, step.total)

    def check(self, scene: Scene) -> None:
        """Refuse a scene that lacks what the conditioner needs, without a model and without torch.

        Called by `weft validate`, and before a model is loaded or anything is drawn. What only the model can tell,
        such as whether its weights know a mode, is refused by `prepare`.

        Raises:
            UserError: the scene does not suit this conditioner.
        """

    @abstractmethod
    def prepare(self, scene: Scene, model: ModelView) -> Prepared:
        """Read the scene once a generation. Import torch here, not at the top of the plugin's module.

        Raises:
            UserError: the scene lacks what the conditioner needs, or the model has no weights for it.
        """


class Prepared(ABC):
    """What a conditioner hands over for one scene, in two forms; both may depend on the branch's prompt."""

    @property
    def words(self) -> Mapping[str, Float[Tensor, "n d"]]:
        """Words that the tokenizer does not know: token embeddings by the word as prompts write it; none by default.

        They are read in every branch in which the conditioner is present, before tokens are counted, so that n vectors
        are n tokens and every position is that of the true sequence. Where it is absent, or off, or of strength 0, the
        tokenizer reads the word as plain text. See `Word` for what a strength between does.
        """
        return {}

    @property
    def sequences(self) -> int:
        """How many times the text transformer's length a prompt may take, in branches in which it is not off."""
        return 1

    @abstractmethod
    def present(self, text: PromptTokens) -> Contribution:
        """The contribution of a branch in which the conditioner is present."""

    @abstractmethod
    def absent(self, text: PromptTokens) -> Contribution:
        """Its own null: null tokens, a zero mask, or an empty tuple."""


@dataclass(frozen=True)
class Fixed(Prepared):
    """The same two forms whatever the prompt."""

    when_present: Contribution
    when_absent: Contribution = ()

    def present(self, text: PromptTokens) -> Contribution:
        return self.when_present

    def absent(self, text: PromptTokens) -> Contribution:
        return self.when_absent
