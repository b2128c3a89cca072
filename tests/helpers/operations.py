"""Counts what would be started on a GPU; fake tensors of one will do."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# what reaches no memory, and what gives a dtype or a device on the host
NONE = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze",
    "reshape", "alias", "detach", "split", "chunk", "as_strided", "unflatten", "promote_types", "device", "empty",
}  # fmt: skip


class Operations(TorchDispatchMode):
    """Collects the names of the operators that are dispatched on tensors, views and allocations aside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if name not in NONE:
            self.names.append(name)
        return function(*args, **(kwargs or {}))
