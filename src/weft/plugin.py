"""The door for plugin authors: everything that a conditioner, a guidance strategy, a metric or a model card needs.

Importing this module loads no torch: the names, which stand in `plugin.pyi`, are imported when first used. A plugin's
module imports those that need torch (ports, networks, tensors) within its functions or under ``TYPE_CHECKING``.

What is here stays: a name leaves no earlier than two minor versions after the version that deprecates it in the
changelog and warns at its use. What is not here may change in any version.
"""

from ._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
