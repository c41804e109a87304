"""Small trees in every dataset's layout, of the three images of `spair_tree`; drawing one twice changes nothing.

`DRAWN` names them all: a new dataset adds its function there, and the contract tests find it.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import io

PARTS = ("skin", "l_brow", "hair", "eye_g")
IMAGES = ("cat/2007_000001", "cat/2007_000002", "dog/2008_000003")


def in_spair(tree: Path) -> Path:
    """The tree itself, with segmentations."""
    segment(tree / "JPEGImages", tree / "Segmentation")
    return tree


def of_unseen(tree: Path) -> Path:
    """The tree's pairs to test with as SPair-U's, beside a link to its photographs; it needs no layout."""
    out = tree.with_name("spair-u")
    in_spair(tree)
    for folder in ("ImageAnnotation", "PairAnnotation/test"):
        shutil.copytree(tree / folder, out / folder, dirs_exist_ok=True)
    for folder in ("JPEGImages", "Segmentation"):
        if not (out / folder).exists():
            (out / folder).symlink_to(tree / folder)
    return out


def in_folder(tree: Path) -> Path:
    """The photographs of a tree as anyone's own folder, with pairs, masks and conditions."""
    images = tree / "JPEGImages"
    rows = ["cat/2007_000001,cat/2007_000002,1,2,3,4", "cat/2007_000002,dog/2008_000003,31,47,36,0"]
    (images / "pairs.csv").write_text("\n".join(["source,target,source_x,source_y,target_x,target_y", *rows]))
    (images / "keypoints.yaml").write_text("flips: [[0, 1]]")
    segment(images, images / "masks")
    condition(images)
    return images


def of_proposals(tree: Path) -> Path:
    """The images of a tree as PF-PASCAL's: the cats a pair, also mirrored, and the dog with itself."""
    out = tree.with_name("pf-pascal")
    archive = out / "PF-dataset-PASCAL"
    points = [[[5, 6], [20, 10], [np.nan, np.nan]], [[4.5, 4], [30, 12], [16, 29]], [[1, 2], [3, 4]]]
    for name, kps in zip(IMAGES, points, strict=True):
        category, stem = name.split("/")
        _copy(tree / "JPEGImages" / f"{name}.jpg", archive / "JPEGImages" / f"{stem}.jpg")
        (archive / "Annotations" / category).mkdir(parents=True, exist_ok=True)
        matrices = {"kps": np.array(kps, np.float64), "bbox": np.array([[1, 2, 30, 28]], np.uint8), "class": category}
        io.savemat(archive / "Annotations" / f"{name}.mat", matrices, do_compression=category == "dog")
    paths = [f"PF-dataset-PASCAL/JPEGImages/{name.split('/')[1]}.jpg" for name in IMAGES]
    cats, dogs = f"{paths[0]},{paths[1]},8", f"{paths[2]},{paths[2]},12"
    for split, rows in {"trn": [f"{cats},0", f"{cats},1", f"{dogs},1"], "val": [f"{dogs},0"]}.items():
        lines = ["source_image,target_image,class,flip", *rows]
        (out / f"{split}_pairs_pf_pascal.csv").write_text("\n".join(lines))
    told = f"{cats},5;20,6;10,4.5;30,4;12"
    (archive / "test_pairs_pf_pascal.csv").write_text(f"source_image,target_image,class,XA,YA,XB,YB\n{told}\n")
    return out


def of_willows(tree: Path) -> Path:
    """The images of a tree as PF-WILLOW's: two cars, and a duck that is paired with itself."""
    out = tree.with_name("pf-willow")
    names = dict(zip(IMAGES, ("car(G)/Cars_006a", "car(G)/Cars_007a", "duck(S)/060_0071"), strict=True))
    for old, new in names.items():
        with Image.open(tree / "JPEGImages" / f"{old}.jpg") as photo:
            (out / "PF-dataset" / new).parent.mkdir(parents=True, exist_ok=True)
            photo.save(out / "PF-dataset" / f"{new}.png")
    one, other, duck = (f"PF-dataset/{name}.png" for name in names.values())
    columns = [f"{axis}{image}{n}" for image in "AB" for axis in "XY" for n in range(1, 11)]
    x, y = [str(2.5 * n) for n in range(10)], [str(20 - 2 * n) for n in range(10)]
    lines = [["imageA", "imageB", *columns], [one, other, *x, *y, *y, *x], [duck, duck, *x, *y, *x, *y]]
    (out / "test_pairs.csv").write_text("\n".join(",".join(line) for line in lines))
    return out


def of_flows(tree: Path) -> Path:
    """The images of a tree as TSS's: every two of them a pair, in one set each; the left halves go left by a pixel."""
    out = tree.with_name("tss")
    for folder, ends in (("FG3DCar/001_005", (0, 1)), ("JODS/car_01_02", (1, 2)), ("PASCAL/bike_01_02", (2, 0))):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for n, place in enumerate(ends, start=1):
            with Image.open(tree / "JPEGImages" / f"{IMAGES[place]}.jpg") as photo:
                photo.save(out / folder / f"image{n}.png")
                width, height = photo.size
            marked = np.zeros((height, width), np.uint8)
            marked[:, : width // 2] = 255
            _save(marked, out / folder / f"mask{n}.png")
            flow = np.where(marked[..., None], np.array([-1, 0.5]), 1e9)
            flow[0, 2], flow[1, 2] = np.nan, 2e9
            write_flow(out / folder / f"flow{n}.flo", flow)
    (out / "PASCAL" / "bike_01_02" / "flip_gt.txt").write_text("1\n")
    return out


def write_flow(path: Path, flow: np.ndarray) -> None:
    """Writes a flow (h w 2) as a .flo file."""
    height, width = flow.shape[:2]
    header = np.float32(202021.25).tobytes() + np.array([width, height], np.int32).tobytes()
    path.write_bytes(header + flow.astype(np.float32).tobytes())


def segment(images: Path, masks: Path) -> None:
    """Marks the left half of every image."""
    for path in sorted(images.rglob("*.jpg")):
        mask = masks / path.relative_to(images).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            marked = np.zeros(image.size[::-1], np.uint8)
        marked[:, : marked.shape[1] // 2] = 1
        Image.fromarray(marked).save(mask)


def in_families(tree: Path) -> Path:
    """The images of a tree in SPair's layout as AP-10K's: both cats of one species, the dog of another family."""
    names = {"cat/2007_000001": "felidae", "cat/2007_000002": "felidae", "dog/2008_000003": "canidae"}
    ids = [f"{family}/{name}" for name, family in names.items()]
    out = tree.with_name("ap10k")
    for name, image_id in zip(names, ids, strict=True):
        fields = json.loads((tree / "ImageAnnotation" / f"{name}.json").read_text())
        size = {"width": fields["image_width"], "height": fields["image_height"], "bbox": [0, 0, 9, 9]}
        _write(out / "ImageAnnotation" / f"{image_id}.json", size | {"keypoints": [3, 4, 2, 0, 0, 0, 5, 6, 1]})
        picture = out / "JPEGImages" / f"{image_id}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / "JPEGImages" / f"{name}.jpg", picture)
    for split, source, target, kind in (("trn", *ids[:2], "species"), ("test", *ids[1:], "all")):
        paths = {"src_json_path": f"ImageAnnotation/{source}.json", "trg_json_path": f"ImageAnnotation/{target}.json"}
        _write(out / "PairAnnotation" / split / f"{Path(source).name}-{Path(target).name}:{kind}.json", paths)
    return out


def of_animals(tree: Path) -> Path:
    """The images of a tree in AP-10K's official layout, one in each of its three files; all are to test with."""
    out = tree.with_name("ap10k-official")
    kinds = {"cat": (1, "felidae"), "dog": (2, "canidae")}
    categories = [{"id": n, "name": name, "supercategory": family} for name, (n, family) in kinds.items()]
    for number, (name, part) in enumerate(zip(IMAGES, ("train", "val", "test"), strict=True), start=1):
        with Image.open(tree / "JPEGImages" / f"{name}.jpg") as photo:
            image = {"id": number, "file_name": f"{number:012d}.jpg", "width": photo.width, "height": photo.height}
        _copy(tree / "JPEGImages" / f"{name}.jpg", out / "data" / f"{number:012d}.jpg")
        points = [x for n in range(17) for x in ((n, n + number, 2) if n < 12 else (0, 0, 0))]
        told = {"id": number, "image_id": number, "category_id": kinds[name[:3]][0], "bbox": [1, 2, 20.5, 10]}
        held = {"images": [image], "annotations": [told | {"keypoints": points}], "categories": categories}
        _write(out / "annotations" / f"ap10k-{part}-split1.json", held)
    return out


def of_birds(tree: Path) -> Path:
    """The images of a tree as CUB-200-2011's: two classes, all to test with, every part shown but the last."""
    out = tree.with_name("cub")
    names = (
        *("back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape"),
        *("right eye", "right leg", "right wing", "tail", "throat"),
    )
    classes = {"cat": "001.cat", "dog": "002.dog"}
    for name in IMAGES:
        _copy(tree / "JPEGImages" / f"{name}.jpg", out / "images" / f"{classes[name[:3]]}{name[3:]}.jpg")
    numbers = range(1, 1 + len(IMAGES))
    parts = [f"{n} {p} {p + n / 4} {p}.0 {int(p < 15)}" for n in numbers for p in range(1, 16)]
    tables = {
        "images.txt": [f"{n} {classes[name[:3]]}{name[3:]}.jpg" for n, name in enumerate(IMAGES, start=1)],
        "train_test_split.txt": [f"{n} 0" for n in numbers],
        "bounding_boxes.txt": [f"{n} 1.0 2.0 20.5 10.0" for n in numbers],
        "parts/parts.txt": [f"{p} {name}" for p, name in enumerate(names, start=1)],
        "parts/part_locs.txt": parts,
    }
    (out / "parts").mkdir(exist_ok=True)
    for name, lines in tables.items():
        (out / name).write_text("".join(f"{line}\n" for line in lines))
    segment(out / "images", out / "segmentations")
    return out


def of_scenes(tree: Path) -> Path:
    """The images of a tree as ADE20K's: two for training, one for validation."""
    out = tree.with_name("ade20k")
    names = {"cat/2007_000001": "training/b", "cat/2007_000002": "training/c", "dog/2008_000003": "validation/a"}
    for old, new in names.items():
        _copy(tree / "JPEGImages" / f"{old}.jpg", out / f"{new}.jpg")
    segment(out, out)
    (out / "ade20k_ref.txt").write_text("b.jpg,c.jpg\n")
    (out / "ade20k_ref_test.txt").write_text("a.jpg,c.jpg,b.jpg\n")
    return out


def of_faces(tree: Path) -> Path:
    """Three photographs as CelebAMask-HQ's, twice as large as their masks."""
    out = tree.with_name("celeba-mask")
    masks = out / "CelebAMask-HQ-mask-anno"
    for number in ("7", "12", "2001"):
        with Image.open(tree / "JPEGImages" / "dog" / "2008_000003.jpg") as photo:
            (out / "CelebA-HQ-img").mkdir(parents=True, exist_ok=True)
            photo.resize((32, 32)).save(out / "CelebA-HQ-img" / f"{number}.jpg")
        labels = np.zeros((16, 16), np.uint8)
        labels[2:12, 3:9] = 1
        _save(labels, masks / "all_parts_except_glasses" / f"{number:0>5}.png")
        for n, part in enumerate(PARTS):
            _save(np.roll(labels * 255, n, axis=0), masks / str(int(number) // 2000) / f"{number:0>5}_{part}.png")
    (out / "train.txt").write_text("12\n7\n")
    (out / "val.txt").write_text("2001\n")
    (out / "celebahq_ref.txt").write_text("12.jpg,7.jpg\n7.jpg,12.jpg,2001.jpg\n")
    return out


def of_clothes(tree: Path) -> Path:
    """The images of a tree as DeepFashion's: two of one garment, one of another."""
    out = tree.with_name("deepfashion")
    names = {
        "cat/2007_000001": "id_01/01_1_front",
        "cat/2007_000002": "id_01/01_2_side",
        "dog/2008_000003": "id_02/01_1",
    }
    for old, new in names.items():
        _copy(tree / "JPEGImages" / f"{old}.jpg", out / "img" / "WOMEN" / "Dresses" / f"{new}.jpg")
        pose(out / "pose" / "WOMEN" / "Dresses" / new)
    lines = [f"img\\WOMEN\\Dresses\\{new}.jpg".replace("/", "\\") for new in names.values()]
    (out / "train.txt").write_text("\n".join(lines[:2]))
    (out / "val.txt").write_text(lines[2])
    (out / "deepfashion_ref_test.txt").write_text(",".join(lines[::-1]))
    return out


def condition(images: Path) -> None:
    """Gives every image of a folder a pose, a mask and edges; one of them is in another group and split."""
    drawn = images / "conditions"
    segment(images, drawn / "mask")
    segment(images, drawn / "edge")
    (drawn / "mask" / "classes.txt").write_text("wall\nfloor\n")
    for path in sorted(images.glob("*/*.jpg")):
        pose(drawn / "pose" / path.relative_to(images).with_suffix(""))
    one, other, dog = "cat/2007_000001", "cat/2007_000002", "dog/2008_000003"
    (images / "groups.csv").write_text(f"image,group\n{one},tom\n{other},tom\n")
    (images / "splits.csv").write_text(f"image,split\n{other},trn\n{one},trn\n{dog},val\n")
    (images / "exemplars.csv").write_text(f"{one},{other},{dog}\n{dog},{other}\n")


def pose(stem: Path) -> None:
    """Writes a pose of three joints as OpenPose's two text files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}_candidate.txt").write_text("4 5 .9 0\n20 12 .9 1\n10.5 28 .8 2\n")
    chosen = [0, 1, -1, -1, -1, 2, *[-1] * 12, 2.6, 3]
    stem.with_name(f"{stem.name}_subset.txt").write_text(" ".join(map(str, chosen)))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


DRAWN: Mapping[str, Callable[[Path], Path]] = {
    "spair": in_spair,
    "spair-u": of_unseen,
    "toy": in_spair,
    "ap10k": in_families,
    "cub": of_birds,
    "pf-pascal": of_proposals,
    "pf-willow": of_willows,
    "tss": of_flows,
    "ade20k": of_scenes,
    "celeba-mask": of_faces,
    "deepfashion": of_clothes,
    "folder": in_folder,
}
"""By the dataset's name, what draws its tree beside that of `spair_tree`, and says where."""
