"""A model with other modules in some places: a view of its own, so that no other thread sees the change."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def replaced(model: M, modules: Mapping[str, nn.Module]) -> M:
    """The model with these modules in place of its own; everything else is shared, parameters and buffers too.

    Only the modules on the way to a path are objects of their own, so it costs neither memory nor time to speak of,
    and nothing has to be undone.

    Args:
        model: it is not changed.
        modules: by path.
    """
    if not modules:
        return model
    view = copy.copy(model)
    view._modules = dict(model._modules)
    below: dict[str, dict[str, nn.Module]] = {}
    for path, module in modules.items():
        name, _, rest = path.partition(".")
        if rest:
            below.setdefault(name, {})[rest] = module
        else:
            view._modules[name] = module
    for name, deeper in below.items():
        child = view._modules[name]
        assert child is not None
        view._modules[name] = replaced(child, deeper)
    return view
