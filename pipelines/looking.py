"""The network that looks at pictures for a translator's losses: VGG-19 where its weights are told, else DINOv2."""

from pathlib import Path

import torch

from matchkit.extract.backbones.picture_features import DinoFeatures
from matchkit.heads.cross_domain.perceptual import PictureFeatures, Vgg19


def features_for(vgg: str, *, device: torch.device) -> PictureFeatures:
    """VGG-19 with the weights of a file, or without one the embedded DINOv2.

    Raises:
        WeightsError: the file does not hold the weights of VGG-19.
    """
    if vgg:
        return Vgg19.load(Path(vgg)).to(device)
    return DinoFeatures("tiny", device=device)
