"""Feature maps at rest: plain zarr v3 on disk, complete or absent, named by what made them."""
