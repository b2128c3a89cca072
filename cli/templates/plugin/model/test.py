from pathlib import Path

import pytest
import weft
from weft.plugin import random_model

import {{ name }}


def test_the_card_leads_to_a_model_that_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model stands in for the files until they are there."""
    if not {{ name }}.FOLDER.is_dir():
        monkeypatch.setattr({{ name }}, "FOLDER", random_model(tmp_path / "files"))
    card = {{ name }}.weft_models()["{{ name }}"]
    result = weft.load(card.folder, device="cpu").generate(weft.Scene("a toy"), steps=1)
    assert len(result.images) == 1
