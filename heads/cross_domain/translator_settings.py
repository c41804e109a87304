"""What a translator is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import PHOTO
from matchkit.heads.cross_domain.generator import GeneratorParams

SEEING = ("feature", "perceptual", "context")
"""The losses for which a network looks at the pictures."""


@dataclass(frozen=True, slots=True)
class TranslatorParams:
    """Parameters of `translator`; the losses' are weights, 0 leaves a term out.

    Attributes:
        paints: the `photo`, or the VAE's `latent` of it.
        channels: of what is painted: 3, or those of the latent.
        shown: what the network is shown of the exemplar: its `warp`, its `mean` everywhere, or nothing (`none`). The
            last two are controls.
        base: whether the network only corrects what is shown, through a convolution that begins as the identity; the
            published one paints all of it.
        detour: whether exemplars of other things are given their target's looks, so that they are pseudo exemplars
            too, whose warps are as loose as those of use.
        matcher: the parameters of the cross-domain head that warps.
        joint: whether that head is trained too, by its own terms and through the picture.
        generator: the plan of the network.
        judge_width: channels of the discriminator after its first convolution.
        same: difference from the target, of pseudo exemplars.
        squared: whether that is the mean squared difference, which has a network blur where it cannot know, instead
            of the mean absolute one.
        feature: L_feat, of pseudo exemplars.
        perceptual: L_perc at `perceptual_layer`.
        context: the contextual loss with the exemplar.
        adversarial: hinge loss; the discriminator's own has this weight too.
        gan_feature: L1 in the discriminator's maps, of pseudo exemplars (published: of all).
        perceptual_layer: of the network that looks at the pictures; "" takes the last but one.
        vgg: file of VGG-19's weights; "" lets the embedded or cached backbone look instead.
        generator_rate: factor of the learning rate for the generator and the head.
        judge_rate: the same for the discriminator.
        beta1: of Adam.
        beta2: of Adam.
        epsilon: of Adam, for the generator and the head; the discriminator's is 1e-8.
        gain: of the xavier-normal weights at the start; 0 leaves them as torch draws them.
        seed: of the weights at the start.
    """

    paints: Literal["photo", "latent"] = "photo"
    channels: int = 3
    shown: Literal["warp", "mean", "none"] = "warp"
    base: bool = True
    detour: bool = True
    matcher: Mapping[str, Any] = field(default_factory=dict)
    joint: bool = False
    generator: GeneratorParams = field(default_factory=GeneratorParams)
    judge_width: int = 64
    same: float = 10.0
    squared: bool = True
    feature: float = 0.0
    perceptual: float = 0.0
    context: float = 0.0
    adversarial: float = 0.0
    gan_feature: float = 0.0
    perceptual_layer: str = ""
    vgg: str = ""
    generator_rate: float = 1.0
    judge_rate: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    gain: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        weights = (self.same, self.adversarial, self.gan_feature, *(getattr(self, name) for name in SEEING))
        if min(weights) < 0 or not any(weights):
            raise ConfigError("translator: the weights of losses must not be negative, nor all of them 0")
        if self.gan_feature and not self.adversarial:
            raise ConfigError("translator: gan_feature compares in the discriminator: set adversarial too")
        if self.paints == PHOTO and self.channels != 3:
            raise ConfigError(f"translator: a photograph has 3 channels, not {self.channels}")
        if self.paints != PHOTO and self.sees:
            raise ConfigError(f"translator: {', '.join(SEEING)} look at photographs, not at a {self.paints}")

    @property
    def sees(self) -> bool:
        """Whether a network looks at the pictures."""
        return any(getattr(self, name) for name in SEEING)
