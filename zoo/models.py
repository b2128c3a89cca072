"""The models that ship with weft: `models.json` names them, a folder of the same name holds each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..core.api.plugin import ModelCard

ZOO = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
PINNED = (".safetensors", ".json", ".txt")

State = Literal["ok", "configurations only", "missing", "changed", "not pinned"]


def cards(zoo: Path = ZOO) -> dict[str, ModelCard]:
    """Every model of the zoo by its name; a folder's `SHA256SUMS` pins its files."""
    listed = json.loads((zoo / "models.json").read_text(encoding="utf-8"))
    return {
        name: ModelCard(card["summary"], zoo / name, card["weights"], _sums(zoo / name / SUMS))
        for name, card in listed.items()
    }


@dataclass(frozen=True)
class Status:
    """A model and the state of its files.

    Args:
        bytes: of its weights.
        state: ``missing`` when a pinned file or every weight is not there, ``changed`` when a digest differs,
            ``not pinned`` when there are weights and no digests.
    """

    name: str
    summary: str
    weights: bool
    bytes: int
    state: State


def status(name: str, card: ModelCard) -> Status:
    """Look at the files of a model and compare their digests."""
    weights = list(card.folder.rglob("*.safetensors"))
    size = sum(path.stat().st_size for path in weights)
    return Status(name, card.summary, card.weights, size, _state(card, bool(weights)))


def _state(card: ModelCard, weights: bool) -> State:
    absent = any(not (card.folder / path).is_file() for path, _ in card.sha256)
    if absent or not card.folder.is_dir() or (card.weights and not weights):
        return "missing"
    if any(_digest(card.folder / path) != wanted for path, wanted in card.sha256):
        return "changed"
    if not card.weights:
        return "configurations only"
    return "ok" if card.sha256 else "not pinned"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(path: Path) -> tuple[tuple[str, str], ...]:
    """(file, digest) of the files that loading reads, from lines as sha256sum writes them."""
    if not path.is_file():
        return ()
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return tuple((name, digest) for digest, name in pairs if name.endswith(PINNED))
