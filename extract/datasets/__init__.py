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
        "toy": "matchkit.extract.datasets.spair:open_toy",
        "ap10k": "matchkit.extract.datasets.ap10k:open_ap10k",
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
