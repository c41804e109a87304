"""Datasets: one file each, one line each in the table.

An entry is called with the root folder of the dataset's tree and returns a `PairDataset`.
"""

from pathlib import Path
from typing import cast

from matchkit.core.records import PairDataset
from matchkit.core.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "spair": "matchkit.extract.datasets.spair:open_spair",
        "spair-u": "matchkit.extract.datasets.spair:open_spair_u",
        "toy": "matchkit.extract.datasets.spair:open_toy",
        "toy-views": "matchkit.extract.datasets.toy_views:open_toy_views",
        "ap10k": "matchkit.extract.datasets.ap10k:open_ap10k",
        "cub": "matchkit.extract.datasets.cub:open_cub",
        "pf-pascal": "matchkit.extract.datasets.pf_pascal:open_pf_pascal",
        "pf-willow": "matchkit.extract.datasets.pf_willow:open_pf_willow",
        "tss": "matchkit.extract.datasets.tss:open_tss",
        "ade20k": "matchkit.extract.datasets.ade20k:open_ade20k",
        "celeba-mask": "matchkit.extract.datasets.celeba_mask:open_celeba_mask",
        "deepfashion": "matchkit.extract.datasets.deepfashion:open_deepfashion",
        "folder": "matchkit.extract.datasets.folder:open_folder",
    },
)


def open_dataset(name: str, root: Path | None = None) -> PairDataset:
    """Opens the dataset called `name` in `root`, by default `data/<name>`.

    Raises:
        UnknownNameError: no table has that name.
        DatasetError: the tree is missing or malformed.
    """
    opener = DATASETS.load(name)
    return cast("PairDataset", opener(root or Path("data") / name))
