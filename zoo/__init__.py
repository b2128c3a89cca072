"""Models as data: the tiny model, the world it was trained on, and configurations of Stable Diffusion 1.x."""

from __future__ import annotations

from collections.abc import Mapping

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.zoo', not '{__name__}': the repository root must not be on sys.path")

from ..core.api.hookspecs import hookimpl
from ..core.api.metric import Metric
from ..core.api.plugin import ModelCard


@hookimpl
def weft_models() -> Mapping[str, ModelCard]:
    """Every folder of the zoo that has a card."""
    from .models import cards

    return cards()


@hookimpl
def weft_metrics() -> Mapping[str, Metric]:
    """What the judge can measure of pictures of the world."""
    from .metrics import metrics

    return metrics()
