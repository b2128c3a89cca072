"""Weft composes conditions over one frozen diffusion UNet.

Importing this package loads no torch: the public names below are imported when they are first used.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.conditioner import Conditioner
    from .core.errors import PluginError, UserError, WeftError
    from .core.guidance import Guidance
    from .core.hookspecs import hookimpl
    from .core.load import load
    from .core.pipeline import Pipeline
    from .core.records import record
    from .core.result import Result
    from .core.scene import Scene, Subject
    from .plugins.alpha_sweep import AlphaSweep, alpha_sweep
    from .plugins.attend_and_excite import AttendAndExcite
    from .plugins.classifier_free import ClassifierFree
    from .plugins.composable import Composable
    from .plugins.delayed import Delayed
    from .plugins.diffusers_guider import DiffusersGuider
    from .plugins.fusing import Fusing
    from .plugins.fusion_text import FusionText
    from .plugins.grounding import Grounding
    from .plugins.instruct import Instruct
    from .plugins.keep_source import KeepSource
    from .plugins.layout import Layout
    from .plugins.mask_location import MaskLocation
    from .plugins.pseudo_word import PseudoWord
    from .plugins.subject_adapter import SubjectAdapter

__all__ = [
    "AlphaSweep",
    "AttendAndExcite",
    "ClassifierFree",
    "Composable",
    "Conditioner",
    "Delayed",
    "DiffusersGuider",
    "Fusing",
    "FusionText",
    "Grounding",
    "Guidance",
    "Instruct",
    "KeepSource",
    "Layout",
    "MaskLocation",
    "Pipeline",
    "PluginError",
    "PseudoWord",
    "Result",
    "Scene",
    "Subject",
    "SubjectAdapter",
    "UserError",
    "WeftError",
    "alpha_sweep",
    "hookimpl",
    "load",
    "record",
]

_HOME = {
    "AlphaSweep": "weft.plugins.alpha_sweep",
    "AttendAndExcite": "weft.plugins.attend_and_excite",
    "ClassifierFree": "weft.plugins.classifier_free",
    "Composable": "weft.plugins.composable",
    "Conditioner": "weft.core.conditioner",
    "Delayed": "weft.plugins.delayed",
    "DiffusersGuider": "weft.plugins.diffusers_guider",
    "Fusing": "weft.plugins.fusing",
    "FusionText": "weft.plugins.fusion_text",
    "Grounding": "weft.plugins.grounding",
    "Guidance": "weft.core.guidance",
    "Instruct": "weft.plugins.instruct",
    "KeepSource": "weft.plugins.keep_source",
    "Layout": "weft.plugins.layout",
    "MaskLocation": "weft.plugins.mask_location",
    "Pipeline": "weft.core.pipeline",
    "PluginError": "weft.core.errors",
    "PseudoWord": "weft.plugins.pseudo_word",
    "Result": "weft.core.result",
    "Scene": "weft.core.scene",
    "Subject": "weft.core.scene",
    "SubjectAdapter": "weft.plugins.subject_adapter",
    "UserError": "weft.core.errors",
    "WeftError": "weft.core.errors",
    "alpha_sweep": "weft.plugins.alpha_sweep",
    "hookimpl": "weft.core.hookspecs",
    "load": "weft.core.load",
    "record": "weft.core.records",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines a public name, the first time the name is used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _unshadow() -> None:
    """Hide this checkout's folder `kernels` from `import kernels`, for Python started in the root of the checkout.

    transformers asks for a package of that name, and would find ours.
    """
    ours = os.path.join(os.path.dirname(__file__), "kernels")
    for entry in sys.path:
        found = os.path.join(entry or os.curdir, "kernels")
        if os.path.isdir(found) and os.path.samefile(found, ours):
            sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # None means "not there"


_unshadow()
