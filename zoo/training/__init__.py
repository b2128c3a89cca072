"""Recipes that train the tiny model, and the code that reads them: ``python -m weft.zoo.training STAGE --recipe FILE --out DIR``."""

if not __name__.startswith("weft."):
    raise ImportError(f"import this package as weft.zoo.training, not as {__name__}")
