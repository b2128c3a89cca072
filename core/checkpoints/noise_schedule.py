"""A model's noise schedule: what its scheduler's file says, and the marks of a single file. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..storage.strict_json import read_config
from .config import plain_config

FILE = "scheduler/scheduler_config.json"
_IN_METADATA = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}


def folder_schedule(folder: Path, fields: Collection[str] | None = None) -> dict[str, Any]:
    """The scheduler's configuration of a folder in diffusers layout, with the class that the folder names.

    Args:
        folder: of the model.
        fields: that a scheduler may have; all are kept by default.

    Raises:
        UserError: the file is not there, is no JSON object, or holds what no scheduler takes.
    """
    config = read_config(folder / FILE, infinite=True)
    schedule = config if fields is None else plain_config(config, fields, f"file '{FILE}'")
    index = folder / "model_index.json"
    named = read_config(index).get("scheduler") if index.is_file() else None
    # diffusers builds the class that the index names, whatever the file beside it says
    if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str):
        return {**schedule, "_class_name": named[1]}
    return {**schedule, "_class_name": config["_class_name"]} if "_class_name" in config else schedule


def marked(
    schedule: Mapping[str, Any], names: Collection[str], metadata: Mapping[str, str]
) -> dict[str, Any]:
    """A schedule with what the marks of a single file say.

    The tensors ``v_pred`` and ``ztsnr`` are NoobAI's and ComfyUI's; ``modelspec.prediction_type`` is Stability AI's
    model specification (https://github.com/Stability-AI/ModelSpec).

    Args:
        schedule: that the configurations for the file say.
        names: of the file's tensors.
        metadata: of its header.

    Raises:
        UserError: the metadata names a prediction that there is not.
    """
    said = metadata.get("modelspec.prediction_type")
    if said is not None and said not in _IN_METADATA:
        expected = f"one of {', '.join(_IN_METADATA)}"
        hint = "Say it yourself: weft.load(..., prediction_type=...)."
        raise UserError("metadata 'modelspec.prediction_type'", expected, repr(said)[:60], hint)
    marks: dict[str, Any] = {} if said is None else {"prediction_type": _IN_METADATA[said]}
    if "v_pred" in names:
        marks["prediction_type"] = "v_prediction"
    if "ztsnr" in names and marks.get("prediction_type") == "v_prediction":
        marks |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return {**schedule, **marks}
