"""Where the makers of datasets have put them, and what of an archive goes where in a tree that `open_dataset` opens.

A file whose checksum no independent source states has none here: its SHA-256 is recorded by the first download.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ARCHIVES = (".zip", ".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a dataset.

    Attributes:
        name: what its makers call it, and what it is called on a mirror.
        places: what of it goes where, both ends below the roots. A key that ends with a slash, or is empty, is the
            folder of an archive whose content goes into a folder of the tree; any other key is the name of a file,
            wherever an archive has it. What no key fits is left out.
        url: where it lies; "" where its makers hand it out to people alone.
        size: its bytes, where known.
        checksum: `sha256:<hex>` or `sha1:<hex>`, where known.
    """

    name: str
    places: Mapping[str, str]
    url: str = ""
    size: int | None = None
    checksum: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return self.name.endswith(ARCHIVES)


@dataclass(frozen=True, slots=True)
class Source:
    """What a dataset is made of.

    Attributes:
        files: all of them; none where the makers ask for an agreement first.
        page: of the makers.
        licence: what the makers say about it, in a sentence.
        by_hand: why and how a person must fetch files without an address.
        borrowed: folders that are another dataset's: {folder: dataset}. They are linked.
        after: what is left to do once the files are in place.
    """

    files: tuple[RemoteFile, ...]
    page: str
    licence: str
    by_hand: str = ""
    borrowed: Mapping[str, str] = field(default_factory=dict)
    after: str = ""


PROPOSAL_FLOW = "https://www.di.ens.fr/willow/research/proposalflow/"
SD4MATCH = "https://www.robots.ox.ac.uk/~xinghui/sd4match/"
DRIVE = "Google Drive hands it out to a browser alone, after a question."
NO_LICENCE = "Its makers state no licence"

SOURCES: Mapping[str, Source] = {
    "spair": Source(
        files=(
            RemoteFile(
                "SPair-71k.tar.gz",
                {"SPair-71k/": ""},
                "https://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz",
                size=226_961_117,
                # of the official address, and the same of the Internet Archive's copy of 2025-07-01
                checksum="sha256:d145eebe4d7d02ff0b9e2746dd3d72cfcb872df0dcfd6f3227576eb594408809",
            ),
        ),
        page="https://cvlab.postech.ac.kr/research/SPair-71k/",
        licence="Images and metadata are from PASCAL VOC and Flickr, whose terms of use hold",
    ),
    "spair-u": Source(
        files=(
            RemoteFile(
                "SPair-U.zip",
                {"datasets/SPair-U/": ""},
                "https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip",
            ),
        ),
        page="https://github.com/VICO-UoE/JamaisVu",
        licence=f"{NO_LICENCE} for the annotations; the images are SPair-71k's",
        borrowed={"JPEGImages": "spair"},
    ),
    "pf-pascal": Source(
        files=(
            RemoteFile(
                "PF-dataset-PASCAL.zip",
                {"PF-dataset-PASCAL/": "PF-dataset-PASCAL"},
                f"{PROPOSAL_FLOW}dataset/PF-dataset-PASCAL.zip",
            ),
            RemoteFile(
                "pf-pascal_image_pairs.zip",
                {name: name for name in ("trn_pairs.csv", "val_pairs.csv", "test_pairs.csv")},
                f"{SD4MATCH}pf-pascal_image_pairs.zip",
            ),
        ),
        page=PROPOSAL_FLOW,
        licence=f"{NO_LICENCE}; the images are PASCAL VOC's, whose terms of use hold",
    ),
    "pf-willow": Source(
        files=(
            RemoteFile("PF-dataset.zip", {"PF-dataset/": "PF-dataset"}, f"{PROPOSAL_FLOW}dataset/PF-dataset.zip"),
            RemoteFile("test_pairs.csv", {"test_pairs.csv": "test_pairs.csv"}, f"{SD4MATCH}test_pairs.csv"),
        ),
        page=PROPOSAL_FLOW,
        licence=NO_LICENCE,
    ),
    "tss": Source(
        files=(RemoteFile("TSS_CVPR2016.zip", {"TSS_CVPR2016/": ""}),),
        page="https://taniai.space/projects/cvpr16_dccs/",
        licence=NO_LICENCE,
        by_hand=DRIVE,
    ),
    "cub": Source(
        files=(
            RemoteFile(
                "CUB_200_2011.tgz",
                {"CUB_200_2011/": ""},
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                size=1_150_585_339,
                # torchvision's and TensorFlow Datasets' tables of checksums agree
                checksum="sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            ),
        ),
        page="https://data.caltech.edu/records/65de6-vp158",
        licence="The photographs belong to those who took them; their use is restricted to non-commercial research",
    ),
    "ap10k": Source(
        files=(RemoteFile("ap-10k.zip", {"ap-10k/": ""}),),
        page="https://github.com/AlexTheBad/AP-10K",
        licence="CC BY 4.0",
        by_hand=DRIVE,
        after="The list ap-10k_is_crowd.txt of GeoAware-SC's code may go beside annotations",
    ),
    "ade20k": Source(
        files=(
            RemoteFile(
                "ADEChallengeData2016.zip",
                {
                    f"ADEChallengeData2016/{kind}/{split}/": split
                    for kind in ("images", "annotations")
                    for split in ("training", "validation")
                },
                "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                # GluonCV's table of checksums
                checksum="sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
            ),
        ),
        page="https://groups.csail.mit.edu/vision/datasets/ADE20K/",
        licence="The images are for non-commercial research and education, the annotations under the BSD 3-clause",
        after="Lists of exemplars (ade20k_ref.txt, ade20k_ref_test.txt) come with CoCosNet's code",
    ),
    "celeba-mask": Source(
        files=(RemoteFile("CelebAMask-HQ.zip", {"CelebAMask-HQ/": ""}),),
        page="https://github.com/switchablenorms/CelebAMask-HQ",
        licence="For non-commercial research and education only",
        by_hand=DRIVE,
        after="Masks (all_parts_except_glasses) and lists of splits and exemplars come with CoCosNet's code",
    ),
    "deepfashion": Source(
        files=(),
        page="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
        licence="For non-commercial research, under a signed agreement",
        by_hand="Its makers ask for a signed agreement and then tell the password of their archives. Put its folders "
        "img and pose into data/deepfashion; poses and lists come with CoCosNet's code.",
    ),
}
