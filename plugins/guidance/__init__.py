"""Guidance strategies: how predictions are combined and latents are moved; one file a method."""
