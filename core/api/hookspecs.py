"""The whole surface through which code from outside enters Weft. pluggy carries registration only.

A distribution names a module in the entry-point group ``weft``::

    [project.entry-points.weft]
    my_conditioner = "my_package.my_conditioner"

and the module, which must not import torch, implements these hooks with `hookimpl`. The entry point's name is the name
of what it brings: by it a run finds the module and imports no other.

A command has no hook: the group ``weft.commands`` names its function, and the entry point's name is the command's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pluggy

from .metric import Metric
from .plugin import ModelCard, Plugin
from .scheduler_entry import SchedulerEntry

GROUP = "weft"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def weft_plugins() -> Sequence[type[Plugin]] | None:
    """Conditioner and guidance classes.

    Called by the registry, once, when a run names the entry point or when plugins are listed. The entry point's
    name is the name of one of the classes. None means none.
    """


@hookspec
def weft_models() -> Mapping[str, ModelCard] | None:
    """Models by name. Called by the registry when a model is looked up or listed. None means none."""


@hookspec
def weft_metrics() -> Mapping[str, Metric] | None:
    """What run files can have measured, by name. Called by the registry when a metric is looked up. None means none."""


@hookspec
def weft_schedulers() -> Mapping[str, SchedulerEntry] | None:
    """Schedulers by name. Called by the registry when one is named that Weft does not bring. None means none.

    The entry point's name is that of one of them, so that a run which names it loads no other.
    """
