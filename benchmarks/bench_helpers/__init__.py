"""What the benchmarks share: options, scores and reports by the judge, and timing in turns on a GPU."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
"""Of the repository."""
