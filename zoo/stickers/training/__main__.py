"""``python -m weft.zoo.stickers.training STAGE --recipe FILE --out DIR``: as ``weft.zoo.training``, on artwork."""

from __future__ import annotations

from ...training import clip, pictures, tokenizer, vae
from ...training.__main__ import Run, main
from . import image_tower, rendered
from .drawn import Drawn
from .words import words


class StickersRun(Run):
    """A run whose pictures are those of the world of artwork."""

    def tokenizer_stage(self) -> None:
        tokenizer.build(words(), self.out / "tokenizer")

    def pictures_stage(self) -> None:
        if (self.out / "pictures").exists():
            return
        recipe = self.recipe(pictures.PicturesRecipe, "pictures")
        rendered.build(recipe, self.tokenizer(), self.out / "pictures")

    def vae_stage(self) -> None:
        recipe = self.recipe(vae.VaeRecipe, "vae")
        self.train(vae.VaeTask(recipe, Drawn()), recipe.loop, "vae")

    def clip_stage(self) -> None:
        recipe = self.recipe(clip.ClipRecipe, "clip")
        self.train(clip.ClipTask(recipe, self.folder, self.pictures(), rendered.KINDS), recipe.loop, "clip")

    def image_tower_stage(self) -> None:
        recipe = self.recipe(image_tower.ImageTowerRecipe, "image_tower")
        task = image_tower.ImageTowerTask(recipe, self.clip(), self.pictures())
        self.train(task, recipe.loop, "image_tower")


if __name__ == "__main__":
    main(run=StickersRun)
