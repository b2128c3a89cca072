"""Schedulers are one table: what is added there is drawn with, checked in run files and named in images."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from weft.core.api.schedulers import SCHEDULERS

ROOT = Path(__file__).resolve().parents[3]

ADDED = """
import sys
from pathlib import Path
from weft.core.api.schedulers import SCHEDULERS, SchedulerEntry
SCHEDULERS["hein"] = SchedulerEntry("HeunDiscreteScheduler", "Heun of old")

from weft.core.runfile.json_schema import run_file_schema
from weft.core.runfile.read import runs_of
from weft.core.runfile.strict_yaml import parse_yaml
text = "{version: 1, model: tiny, prompt: a toy, guidance: [], sampler: {scheduler: hein}}"
(run,) = runs_of(parse_yaml(text, "run.yaml"), Path("."))
schema = run_file_schema()["definitions"]["SamplerSettings"]["properties"]["scheduler"]
print(run.sampler.scheduler, "hein" in schema["enum"], "torch" in sys.modules)

import torch, weft
from PIL import Image
from diffusers import HeunDiscreteScheduler
from weft.testing import random_pipeline
pipe = random_pipeline()
result = pipe.generate(run.scene, guidance=run.guidance, scheduler="hein", steps=2, height=32, width=32)
(path,) = result.save(sys.argv[1])
print(Image.open(path).text["parameters"].split(", ")[1])

heun = HeunDiscreteScheduler.from_config(dict(pipe.scheduler))
heun.set_timesteps(2)
latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * heun.init_noise_sigma
context = pipe.text.encode(pipe.text.tokens("a toy"))[None]
for timestep in heun.timesteps:
    with torch.no_grad():
        noise = pipe.unet(heun.scale_model_input(latents, timestep), timestep, context).sample
    latents = heun.step(noise, timestep, latents).prev_sample
print(torch.allclose(latents, result.latents, atol=1e-5))
"""


def test_a_scheduler_is_added_by_a_line_of_the_table(tmp_path) -> None:
    """In a process of its own, in which the line is there before anything is made of the table."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", ADDED, tmp_path], capture_output=True, text=True, timeout=250
    )
    assert done.stdout.splitlines() == ["hein True False", "Sampler: Heun of old", "True"], done.stderr


def test_the_page_of_run_files_lists_the_table() -> None:
    page = (ROOT / "docs" / "run-files.md").read_text()
    listed = re.search(r"`scheduler` \(([^)]+)\)", page)
    assert listed is not None
    assert listed[1].split(", ") == list(SCHEDULERS)
