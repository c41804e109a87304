"""The embedded default: a small Stable Diffusion and a small DINOv2 of our own training, shipped inside the package."""
