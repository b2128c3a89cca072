"""What an interval is, for who writes or draws one. Free of numpy, which takes a tenth of a second to import."""

from __future__ import annotations

import math
from typing import Final

Interval = tuple[float, float]
"""(low, high)."""

UNBOUNDED: Final = (-math.inf, math.inf)
