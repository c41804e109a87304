"""Datasets from their makers' servers: where they lie, fetching them, unpacking what strangers packed."""
