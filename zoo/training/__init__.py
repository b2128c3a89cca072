"""Recipes that train the tiny model, and the code that follows them: ``python -m weft.zoo.training --help``."""

if not __name__.startswith("weft."):
    raise ImportError(f"import this package as weft.zoo.training, not as {__name__}")
