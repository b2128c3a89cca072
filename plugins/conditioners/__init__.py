"""Conditioners: how one kind of knowledge in a scene enters the UNet; one file or one folder a method."""
