"""Your own images, with and without a `pairs.csv`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.geometry import place
from matchkit.core.records import Canvas, PairDataset
from matchkit.extract.datasets.folder import Folder, open_folder
from matchkit.extract.images import load_image
from matchkit.extract.run import inputs

HEADER = "source,target,source_x,source_y,target_x,target_y,keypoint,split"
Draw = Callable[[tuple[int, int], int], Image.Image]


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    folder = tmp_path / "mine"
    (folder / "cats").mkdir(parents=True)
    draw((20, 10), 0).save(folder / "cats" / "tom.png")
    draw((12, 16), 1).save(folder / "rex.JPG")
    (folder / "notes.txt").write_text("not an image")
    return folder


def with_pairs(root: Path, *rows: str, header: str = HEADER) -> Folder:
    (root / "pairs.csv").write_text("\n".join([header, *rows]) + "\n")
    return open_folder(root)


def test_images_are_named_by_their_path_without_the_ending(root: Path) -> None:
    data = open_folder(root)
    assert {name: record.size for name, record in data.images.items()} == {"cats/tom": (20, 10), "rex": (12, 16)}
    assert list(data.images) == sorted(data.images)


def test_without_pairs_csv_there_are_images_alone(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv is missing: it says which images belong together"):
        open_folder(root).pairs("test")


def test_pairs_with_keypoints_and_splits(root: Path) -> None:
    data = with_pairs(
        root, "cats/tom,rex,1,2,3,4,nose,trn", "cats/tom,rex,5.5,6,7,8,tail,trn", "rex,cats/tom,0,0,19,9,,test"
    )
    assert isinstance(data, PairDataset)
    assert data.splits == ("test", "trn")
    (pair,) = data.pairs("trn")
    assert (pair.source, pair.target, pair.keypoint_ids) == ("cats/tom", "rex", ("nose", "tail"))
    assert pair.source_points.tolist() == [[1, 2], [5.5, 6]]
    assert pair.target_points.tolist() == [[3, 4], [7, 8]]
    assert pair.source_points.dtype == np.float32
    assert pair.source_box is None
    assert data.pairs("test")[0].keypoint_ids == ("0",)


def test_two_columns_are_enough(root: Path) -> None:
    data = with_pairs(root, "cats/tom,rex", "rex,cats/tom", header="source,target")
    assert data.splits == ("test",)
    assert [len(pair.source_points) for pair in data.pairs("test")] == [0, 0]
    assert len({pair.id for pair in data.pairs("test")}) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("cats/tom,max,1,1,1,1,,", "no image 'max'"),
        ("cats/tom,rex,1,one,1,1,,", "needs numbers in source_x, source_y, target_x, target_y"),
        ("cats/tom,rex,1,1", "needs numbers in"),
        ("cats/tom,rex,21,1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,rex,1,1,1,17,,", "a keypoint of 'rex' lies outside it"),
        ("cats/tom,rex,nan,1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,rex,1,-1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,,1,1,1,1,,", "no image ''"),
    ],
)
def test_a_bad_row(root: Path, row: str, message: str) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv") as caught:
        with_pairs(root, row).pairs("test")
    assert message in str(caught.value)


def test_a_row_without_coordinates_has_no_keypoint(root: Path) -> None:
    (pair,) = with_pairs(root, "cats/tom,rex,,,,,one,", "cats/tom,rex,1,2,3,4,two,").pairs("test")
    assert (pair.keypoint_ids, pair.source_points.tolist()) == (("two",), [[1, 2]])


def test_a_spreadsheets_byte_order_mark_is_read_over(root: Path) -> None:
    data = with_pairs(root, "cats/tom,rex,1,2,3,4,nose,", header=f"\ufeff{HEADER}")
    assert data.pairs("test")[0].source == "cats/tom"


def test_another_encoding_is_named(root: Path) -> None:
    (root / "pairs.csv").write_bytes(f"{HEADER}\ncats/tom,rex,1,2,3,4,m\xe4hne,\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"pairs\.csv is not a CSV file in UTF-8"):
        open_folder(root).pairs("test")


@pytest.mark.parametrize("rows", [[], ["cats/tom"]])
def test_missing_columns_or_rows(root: Path, rows: list[str]) -> None:
    with pytest.raises(DatasetError, match="needs the columns source,target and at least one row"):
        with_pairs(root, *rows, header="source" if rows else HEADER).pairs("test")


def test_a_split_without_pairs(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv has no pair in split 'val'"):
        with_pairs(root, "cats/tom,rex,1,1,1,1,,trn").pairs("val")


def test_two_images_of_one_name(root: Path, draw: Draw) -> None:
    draw((8, 8), 2).save(root / "rex.png")
    with pytest.raises(DatasetError, match=r"rex\.\w+ and .*rex\.\w+ have one name; rename one of them"):
        _ = open_folder(root).images


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere is not a folder. Give your images' folder with --root DIR"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no image in"):
        _ = open_folder(tmp_path).images


def test_a_file_that_is_no_image(root: Path) -> None:
    (root / "broken.jpg").write_text("text")
    with pytest.raises(DatasetError, match=r"broken\.jpg is not a readable image"):
        _ = open_folder(root).images


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that is wrong in a file
@pytest.mark.parametrize(
    "data",
    [
        b"P6 20x 12 255\n" + bytes(720),  # a ValueError of Pillow's
        b"",
        b"II*\0\xff\xff\xff\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        b"BM" + bytes(60),
    ],
)
def test_a_broken_header_is_named(root: Path, data: bytes) -> None:
    (root / "broken.jpg").write_bytes(data)
    with pytest.raises(DatasetError, match=r"broken\.jpg is not a readable image: "):
        _ = open_folder(root).images


@pytest.mark.parametrize("ending", ["@flip", "@rot90", "@rot270"])
def test_a_name_that_is_kept_for_posed_copies_is_refused(root: Path, draw: Draw, ending: str) -> None:
    draw((8, 8), 2).save(root / "cats" / f"tom{ending}.png")
    with pytest.raises(DatasetError, match=rf"tom{ending}\.png: the ending {ending} is kept for posed copies; rename"):
        _ = open_folder(root).images


def save_turned(path: Path, image: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_photograph(root: Path, draw: Draw, ending: str, orientation: int) -> None:
    save_turned(root / f"phone.{ending}", draw((20, 12), 2), orientation)
    record = open_folder(root).images["phone"]
    assert record.size == ((12, 20) if orientation in (6, 8) else (20, 12))
    assert load_image(record, oriented=True).size == record.size


def test_a_keypoint_lies_where_a_viewer_shows_it(root: Path, draw: Draw) -> None:
    shown = Image.new("RGB", (32, 64))
    shown.putpixel((5, 60), (255, 255, 255))
    save_turned(root / "phone.png", shown.transpose(Image.Transpose.ROTATE_90), 6)
    data = with_pairs(root, "phone,rex,5,60,1,1,tail,")
    (pair,) = data.pairs("test")
    canvas = Canvas((64, 64), "letterbox", bars=0.0, oriented=True)
    (placed,) = inputs(data.images["phone"], [canvas])
    placement = place(data.images["phone"].size, canvas.size, fit=canvas.fit)
    x, y = (pair.source_points[0] + 0.5) * placement.scale - 0.5 + placement.offset
    assert placed[:, int(y), int(x)].tolist() == [1, 1, 1]
    assert float(placed.sum()) == 3


def test_a_photograph_on_its_side_names_the_setting(root: Path, draw: Draw) -> None:
    save_turned(root / "phone.jpg", draw((20, 12), 2), 6)
    with pytest.raises(
        DatasetError,
        match=r"phone\.jpg is 20 x 12 pixels as it lies in its file, but its annotation says 12 x 20. "
        r"Apply its EXIF orientation: --set oriented=true",
    ):
        load_image(open_folder(root).images["phone"])


def test_a_scheme_is_what_keypoints_yaml_says(root: Path) -> None:
    (root / "keypoints.yaml").write_text("flips: [[left_eye, right_eye], [1, 2]]\ngroups: [[1, 2, 3, 4]]\n")
    scheme = open_folder(root).scheme("")
    assert scheme.flips == (("left_eye", "right_eye"), ("1", "2"))
    assert scheme.groups == (("1", "2", "3", "4"),)


def test_without_keypoints_yaml_there_is_no_scheme(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"keypoints\.yaml is missing: it says which keypoints mirror each other"):
        open_folder(root).scheme("")
    with pytest.raises(DatasetError, match="folder: category 'cat' has no flip table; a folder's one category is ''"):
        open_folder(root).scheme("cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must hold flips and groups, not None"),
        (b"flips: [[a, b]", "is not a YAML file in UTF-8"),
        (b"flips: [[m\xe4hne, b]]", "is not a YAML file in UTF-8"),
        (b"flips: [[a, b, c]]", "flips must be pairs of keypoints"),
        (b"groups: [[a, b], [b, c]]", "keypoint 'b' stands in two groups"),
    ],
)
def test_a_bad_keypoints_yaml_is_named(root: Path, text: bytes, message: str) -> None:
    (root / "keypoints.yaml").write_bytes(text)
    with pytest.raises(DatasetError, match=rf"mine/keypoints\.yaml.*{message}"):
        open_folder(root).scheme("")


def test_masks_mirror_the_images_paths_and_are_no_images(root: Path) -> None:
    marked = np.zeros((10, 20), np.uint8)
    marked[2:5, 7:11] = 255
    (root / "masks" / "cats").mkdir(parents=True)
    Image.fromarray(marked).save(root / "masks" / "cats" / "tom.png")
    data = open_folder(root)
    assert list(data.images) == ["cats/tom", "rex"]
    np.testing.assert_array_equal(data.mask("cats/tom"), marked > 0)
    with pytest.raises(DatasetError, match=r"masks/rex\.png is missing"):
        data.mask("rex")
    with pytest.raises(DatasetError, match="no image 'max' in"):
        data.mask("max")


def test_a_mask_is_as_large_as_the_upright_photograph(root: Path, draw: Draw) -> None:
    save_turned(root / "phone.png", draw((20, 12), 2), 6)
    (root / "masks").mkdir()
    Image.new("1", (12, 20), 1).save(root / "masks" / "phone.png")
    assert open_folder(root).mask("phone").shape == (20, 12)
    Image.new("1", (20, 12), 1).save(root / "masks" / "phone.png")
    with pytest.raises(DatasetError, match=r"masks/phone\.png is 20 x 12 pixels, but its image 12 x 20"):
        open_folder(root).mask("phone")


def test_a_folder_deeper_down_may_be_called_masks(root: Path, draw: Draw) -> None:
    (root / "venice" / "masks").mkdir(parents=True)
    draw((8, 8), 2).save(root / "venice" / "masks" / "a.png")
    assert "venice/masks/a" in open_folder(root).images


def test_a_condition_is_as_large_as_the_upright_photograph(root: Path, draw: Draw) -> None:
    save_turned(root / "phone.png", draw((20, 12), 2), 6)
    (root / "conditions" / "edge").mkdir(parents=True)
    Image.new("L", (12, 20), 255).save(root / "conditions" / "edge" / "phone.png")
    data = open_folder(root)
    assert list(data.images) == ["cats/tom", "phone", "rex"]
    assert data.kinds == ("edge",)
    assert data.condition("phone", "edge").shape == (2, 20, 12)
    Image.new("L", (20, 12), 255).save(root / "conditions" / "edge" / "phone.png")
    with pytest.raises(DatasetError, match=r"edge/phone\.png is 20 x 12 pixels, but its photograph 12 x 20"):
        data.condition("phone", "edge")
