"""The text path of Subject-Diffusion (Ma et al. 2023, arXiv 2307.11410)."""
