"""What the noise schedule of a model that lies on this machine asks of a sampler. Free of torch."""

from __future__ import annotations

from pathlib import Path

from ..api.sampler_settings import SamplerSettings
from ..api.schedulers import check_steps, own_scheduler
from ..checkpoints.noise_schedule import FILE, folder_schedule
from ..errors import UserError
from ..scene.field_error import FieldError


def schedule_error(model: Path, sampler: SamplerSettings) -> FieldError | None:
    """What loading the model, or its scheduler at so many steps, would refuse; None for nothing, or for no folder.

    Args:
        model: a folder in diffusers layout, or whatever else.
        sampler: of the run.
    """
    if not (model / FILE).is_file():
        return None
    try:
        config = folder_schedule(model)
        name = sampler.scheduler or own_scheduler(config)
    except UserError as error:
        return FieldError(("model",), error.expected, error.found, error.hint)
    try:
        check_steps(name, config, sampler.steps)
    except UserError as error:
        return FieldError(("sampler", "steps"), error.expected, error.found, error.hint)
    return None
