"""Denoising: branches are evaluated, combined, and the scheduler moves the latents."""
