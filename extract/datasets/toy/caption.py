"""Captions: a small and regular English."""

from matchkit.extract.datasets.toy.scene import Instance

SIDES: tuple[str, ...] = ("front", "front left", "left", "back left", "back", "back right", "right", "front right")
"""Where the camera stands, by azimuth bin; left and right are the object's own."""


def describe(instance: Instance, *, azimuth_id: int, elevation: float) -> str:
    """A prompt such as "a photo of a brown dog seen from the front left, with long legs and dark ears".

    Args:
        instance: The object.
        azimuth_id: Azimuth bin, 0 to 7.
        elevation: Height of the camera, degrees; from 25 the prompt says "and above".
    """
    article = "an" if (instance.colour or instance.category)[0] in "aeiou" else "a"
    side = SIDES[azimuth_id] + (" and above" if elevation >= 25 else "")
    text = f"a photo of {article} {instance.colour} {instance.category} seen from the {side}"
    if not instance.traits:
        return text
    *first, last = instance.traits
    return f"{text}, with {', '.join(first)} and {last}" if first else f"{text}, with {last}"
