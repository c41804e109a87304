"""Random numbers that depend on what they are for, never on the order in which things happen."""

import hashlib

import torch


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed made of `seed` and of what the numbers are for, e.g. an image id and a timestep.

    Example:
        >>> derive_seed(0, "dog/a", 51) == derive_seed(0, "dog/a", 51)
        True
        >>> derive_seed(0, "dog/a", 51) == derive_seed(0, "dog/b", 51)
        False
    """
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`; noise is drawn on the CPU so that every device sees the same."""
    return torch.Generator().manual_seed(derive_seed(seed, *parts))
