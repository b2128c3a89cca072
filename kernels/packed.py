"""What the custom operators' calls share: their arguments go by position, in the order of a dataclass's fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, eq=False)
class Packed:
    """A base of dataclasses whose fields are an operator's arguments."""

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Those of the operator, in the schema's order."""
        return tuple(getattr(self, one.name) for one in fields(self))
