"""Heads: feature maps to descriptors. One file each, one line each in the table.

An entry is a class with a frozen dataclass `Params`, built as `Class(params, spec=spec)` from the `FeatureSpec` of the
features it will see. A head with parameters to learn is a `TrainableHead`; one that only chooses is fitted by choosing.
"""

from matchkit.core.registry import Registry

HEADS = Registry(
    "head",
    {
        "raw-layer": "matchkit.heads.identity:RawLayer",
        "concatenate": "matchkit.heads.identity:Concatenate",
        "co-pca": "matchkit.heads.co_pca:CoPCA",
        "fusion": "matchkit.heads.fusion:Fusion",
        "aggregator": "matchkit.heads.aggregator:Aggregator",
        "post-processor": "matchkit.heads.post_processor:PostProcessor",
        "sequential-post-processor": "matchkit.heads.sequential:SequentialPostProcessor",
        "prompt": "matchkit.heads.prompt:Prompt",
        "conditional-prompt": "matchkit.heads.conditional_prompt:ConditionalPrompt",
        "cross-domain": "matchkit.heads.cross_domain.head:CrossDomain",
        "translator": "matchkit.heads.cross_domain.translator:Translator",
    },
)
