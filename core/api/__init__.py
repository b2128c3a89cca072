"""What plugins build on, and how they are registered; `weft.plugin` is its door."""
