"""What a scheduler does to the latents at one step, as a handful of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import KernelError

Kind = Literal["ddim", "euler", "dpmpp_2m"]
KINDS: Final[tuple[Kind, ...]] = ("ddim", "euler", "dpmpp_2m")
_COUNT: Final = 7


@dataclass(frozen=True)
class Update:
    """One step from latents x and a prediction e, by way of the predicted clean latents x0.

    Every kind has ``x0 = (a x - b e) / c``, which holds for predicted noise and for predicted velocity. Then

    - ddim (Song et al. 2021, arXiv 2010.02502, equation 12, without noise): ``p x0 + q (f e + g x)``
    - euler (Karras et al. 2022, arXiv 2206.00364, algorithm 1): ``x + (x - x0) / p * q``
    - dpmpp_2m (Lu et al. 2022, arXiv 2211.01095, algorithm 2): ``p x - q x0 - f (g (x0 - before))``, with x0 of the
      step before; f is 0 at a step of first order.

    Args:
        kind: which of them.
        a, b, c, p, q, f, g: finite numbers; 0 where the kind does not read one.
    """

    kind: Kind
    a: float
    b: float
    c: float
    p: float
    q: float
    f: float = 0.0
    g: float = 0.0

    @property
    def numbers(self) -> list[float]:
        return [self.a, self.b, self.c, self.p, self.q, self.f, self.g]

    @property
    def second_order(self) -> bool:
        """Whether it reads the x0 of the step before."""
        return self.kind == "dpmpp_2m" and self.f != 0.0

    @staticmethod
    def of(kind: int, numbers: Sequence[float]) -> Update:
        """From an operator's arguments.

        Raises:
            KernelError: they are none.
        """
        if not 0 <= kind < len(KINDS) or len(numbers) != _COUNT:
            raise KernelError(
                "combine_and_step, argument 'update'", f"a kind below {len(KINDS)} and {_COUNT} numbers",
                f"kind {kind} and {len(numbers)} numbers",
            )  # fmt: skip
        return Update(KINDS[kind], *numbers)

    @property
    def slopes(self) -> tuple[float, float, float]:
        """Derivatives of the new latents in e, in x and in the x0 of the step before."""
        by_e, by_x = -self.b / self.c, self.a / self.c
        if self.kind == "ddim":
            return self.p * by_e + self.q * self.f, self.p * by_x + self.q * self.g, 0.0
        if self.kind == "euler":
            return -by_e / self.p * self.q, 1.0 + (1.0 - by_x) / self.p * self.q, 0.0
        by_x0 = -self.q - self.f * self.g
        return by_x0 * by_e, self.p + by_x0 * by_x, self.f * self.g
