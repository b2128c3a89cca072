"""Recipes' stages for the world of artwork; what no world needs to know of is in ``weft.zoo.training``."""
