"""Damaged and dishonest files: an array of the claimed size, or one line that names the file; little memory.

Axes: H W pixels, C channel.
"""

import io
import struct
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.datasets._rasters.reader import RasterReader
from mmbench.errors import DataError

MOST_BYTES = 64e6


def make_tiff(channels, dtype=np.uint8, **options):
    pixels = np.random.default_rng(0).integers(0, 200, (24, 20, channels)).astype(dtype)
    stream = io.BytesIO()
    if channels == 1:
        tifffile.imwrite(stream, pixels[..., 0], photometric="minisblack", **options)
    else:
        pixels = np.moveaxis(pixels, -1, 0).copy() if options.get("planarconfig") == "separate" else pixels
        options = {"extrasamples": ["unspecified"] * (channels - 3), "planarconfig": "contig"} | options
        tifffile.imwrite(stream, pixels, photometric="rgb", **options)
    return stream.getvalue()


def make_picture(form, mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 200, (24, 20, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


WHOLE = {
    "plain.tif": make_tiff(3),
    "strips.tif": make_tiff(1, compression="lzw", rowsperstrip=5),
    "tiles.tif": make_tiff(4, compression="lzw", tile=(16, 16), predictor=True),
    "heights.tif": make_tiff(1, np.float32, compression="zlib", rowsperstrip=7, predictor=True),
    "jpeg.tif": make_tiff(3, compression="jpeg", tile=(16, 16)),
    "big.tif": make_tiff(3, bigtiff=True, byteorder=">", rowsperstrip=7, compression="packbits"),
    "planes.tif": make_tiff(4, planarconfig="separate", compression="zlib", tile=(16, 16)),
    "palette.tif": make_picture("TIFF", "P", compression="tiff_lzw"),
    "colour.jpg": make_picture("JPEG"),
    "grey.jpg": make_picture("JPEG", "L", progressive=True),
    "restarts.jpg": make_picture("JPEG", restart_marker_rows=1),
    "colour.png": make_picture("PNG"),
    "palette.png": make_picture("PNG", "P"),
    "four.png": make_picture("PNG", "RGBA"),
}


def read(path, most_bytes=MOST_BYTES):
    """Return the pixels, or the words of the refusal; everything else is a failure."""
    reader = RasterReader()
    tracemalloc.start()
    try:
        header = reader.header(path)
        result = reader.read(path)
        assert result.shape == (*header.size, header.channels)
        assert result.dtype == header.dtype
    except DataError as error:
        result = str(error)
        assert result.startswith(f"{path}: cannot be read (")
        assert len(result.splitlines()) == 1
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < most_bytes
    return result


def refusal(path, content, most_bytes=MOST_BYTES):
    """Return why a file with that content is refused."""
    path.write_bytes(content)
    words = read(path, most_bytes)
    assert isinstance(words, str)
    return words.removeprefix(f"{path}: cannot be read (")


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_files_are_read(name, tmp_path):
    (tmp_path / name).write_bytes(WHOLE[name])
    assert read(tmp_path / name).shape[:2] == (24, 20)


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("byte"), st.floats(0, 1), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("word"), st.floats(0, 1), st.binary(min_size=4, max_size=4)),
        st.tuples(
            st.just("word"), st.floats(0, 1), st.sampled_from([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
        ),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(max_size=20)),
        st.tuples(st.just("double"), st.floats(0, 1), st.just(b"")),
    ),
    min_size=1,
    max_size=4,
)


def edit(content, edits):
    """Damage a file; a place is given as a share of its length."""
    for kind, share, data in edits:
        place = int(share * len(content))
        if kind == "cut":
            content = content[:place]
        elif kind == "double":
            content = content[:place] + content[place // 2 :]
        else:
            rest = place if kind == "insert" else place + len(data)
            content = content[:place] + data + content[rest:]
    return content


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_read_at_its_size_or_refused_in_one_line(name, tmp_path, capfd):
    @settings(max_examples=120)
    @given(EDITS)
    def check(edits):
        (tmp_path / name).write_bytes(edit(WHOLE[name], edits))
        read(tmp_path / name)

    check()
    # A decoder in C might print, which no filter of ours would catch.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_was_cut_off_within_its_pixels_is_refused(name, tmp_path):
    whole = WHOLE[name]
    end = len(whole)
    if name.endswith(".tif"):
        with tifffile.TiffFile(io.BytesIO(whole)) as file:
            end = max(map(sum, zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True)))
    for length in (1, 9, *range(30, end - 1, end // 20), end - 1):
        refusal(tmp_path / name, whole[:length])
        with pytest.raises(DataError):  # by its header alone, before an hour of training
            RasterReader().header(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
def test_random_bytes_are_refused(suffix, tmp_path):
    starts = [b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]

    @settings(max_examples=200)
    @given(st.sampled_from(starts), st.binary(max_size=200))
    def check(start, rest):
        refusal(tmp_path / f"t{suffix}", start + rest)

    check()


WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, COUNTS = (
    *(256, 257, 258, 259, 262),
    *(273, 277, 278, 279),
)
TILE_WIDTH, TILE_LENGTH, TILES_AT, TILE_COUNTS = 322, 323, 324, 325
COMMON = {WIDTH: [20], LENGTH: [24], BITS: [8], PHOTOMETRIC: [1], SAMPLES: [1]}
STRIPED = COMMON | {COMPRESSION: [1], STRIPS: [600], ROWS: [24], COUNTS: [480]}
TILED = COMMON | {COMPRESSION: [5], TILE_WIDTH: [32], TILE_LENGTH: [32], TILES_AT: [600], TILE_COUNTS: [400]}
LONG = 4
WIDTHS = {
    1: 1,
    2: 1,
    3: 2,
    LONG: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


def craft_tiff(tags, *, types=None, counts=None, data=bytes(2000)):
    """Return a TIFF of code -> values; of a code, another type than LONG or a count that is wrong."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for code in sorted(tags):
        kind = (types or {}).get(code, LONG)
        width = WIDTHS.get(kind, 4)
        packed = b"".join((value % 2 ** (8 * width)).to_bytes(width, "little") for value in tags[code])
        if len(packed) > 4:
            packed, values = struct.pack("<I", start + len(values)), values + packed
        entries += struct.pack("<HHI", code, kind, (counts or {}).get(code, len(tags[code])))
        entries += packed.ljust(4, b"\0")
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4) + values
    return head.ljust(600, b"\0") + data


def test_a_tiff_made_by_hand_is_read_if_it_is_honest(tmp_path):
    for tags in (STRIPED, TILED | {COMPRESSION: [1], TILE_COUNTS: [1024]}):
        (tmp_path / "t.tif").write_bytes(craft_tiff(tags))
        assert read(tmp_path / "t.tif").shape == (24, 20, 1)


CODES = [
    *(*STRIPED, *TILED, 254, 266, 274, 284, 317, 320, 330, 338, 339, 347, 512, 513, 514, 519, 530),
    *(270, 305, 32997, 32998, 33445, 33550, 33628, 33629, 34412, 34735, 42113, 50838, 50839, 65426),
]
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 5, 7, 8, 16, 32, 255, 65535, 10**6, 2**31 - 1, 2**31, 2**32 - 1]),
    st.integers(0, 2**32 - 1),
)
PHOTOMETRICS = [0, 1, 2, 3, 5, 6, 8]
COMPRESSIONS = [1, 2, 5, 6, 7, 8, 32773, 33003, 34712, 34887, 34925, 34926, 50000, 50001, 50002]


@settings(max_examples=1500)
@given(
    base=st.sampled_from([STRIPED, TILED]),
    compression=st.sampled_from(COMPRESSIONS),
    photometric=st.sampled_from(PHOTOMETRICS),
    changes=st.dictionaries(st.sampled_from(CODES), st.lists(NUMBERS, min_size=1, max_size=4), max_size=4),
    types=st.dictionaries(st.sampled_from(CODES), st.sampled_from([0, *WIDTHS, 99]), max_size=2),
    counts=st.dictionaries(st.sampled_from(CODES), NUMBERS, max_size=2),
    data=st.binary(max_size=50),
)
def test_any_tiff_header_is_read_at_its_size_or_refused_in_one_line(
    tmp_path_factory, base, compression, photometric, changes, types, counts, data
):
    tags = base | {COMPRESSION: [compression], PHOTOMETRIC: [photometric]} | changes
    path = tmp_path_factory.getbasetemp() / "crafted.tif"
    path.write_bytes(craft_tiff(tags, types=types, counts=counts, data=data * 40))
    read(path)


def giant_png(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def giant_jpeg(content, width, height):
    """Change the size in the frame header that follows the marker FF C0."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "t.tif",
            craft_tiff(STRIPED | {WIDTH: [10**6], LENGTH: [10**6], ROWS: [10**6]}),
            "a picture of 1000000 x",
        ),
        (
            "t.tif",
            craft_tiff(STRIPED | {WIDTH: [10**6], COMPRESSION: [5]}),
            "a picture of 24 x 1000000 pixels",
        ),
        (
            "t.tif",
            craft_tiff(STRIPED | {LENGTH: [2**31], ROWS: [1]}, counts={STRIPS: 2**31, COUNTS: 2**31}),
            "",
        ),
        (
            "t.tif",
            craft_tiff(TILED | {TILE_WIDTH: [2**15], TILE_LENGTH: [2**15]}),
            "a part of 32768 x 32768 pixels",
        ),
        ("t.tif", craft_tiff(STRIPED | {SAMPLES: [65535], BITS: [64], LENGTH: [2**12]}), "of 65535 channels"),
        ("t.tif", craft_tiff(STRIPED | {LENGTH: [0], ROWS: [0]}), "a picture of 0 x 20 pixels"),
        ("t.tif", giant_jpeg(WHOLE["jpeg.tif"], 20000, 20000), "part 0 claims 20000 x 20000 pixels"),
        ("t.png", giant_png(10**6, 10**6), "a picture of 1000000 x 1000000 pixels"),
        ("t.png", giant_png(20000, 20000), "a picture of 20000 x 20000 pixels"),
        ("t.jpg", giant_jpeg(WHOLE["colour.jpg"], 65500, 65500), "a picture of 65500 x 65500 pixels"),
        ("t.jpg", giant_jpeg(WHOLE["colour.jpg"], 20, 0), "a picture of 0 x 20 pixels"),
    ],
)
def test_a_claim_that_no_file_of_that_length_can_stand_behind_is_refused_before_memory_is_asked_for(
    name, content, words, tmp_path
):
    assert words in refusal(tmp_path / name, content, most_bytes=4e6)


@pytest.mark.parametrize(
    "packed", [zlib.compress(bytes(10**8), 9), imagecodecs.lzw_encode(bytes(10**7))], ids=["deflate", "lzw"]
)
def test_a_strip_that_swells_is_decoded_no_further_than_the_picture_goes(packed, tmp_path):
    compression = 8 if packed[:1] == b"x" else 5
    tags = STRIPED | {COMPRESSION: [compression], COUNTS: [len(packed)]}
    (tmp_path / "t.tif").write_bytes(craft_tiff(tags, data=packed))
    read(tmp_path / "t.tif", most_bytes=2e6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({COMPRESSION: [34712]}, "its compression is jpeg2000, expected one of deflate, jpeg, lzma, lzw"),
        ({COMPRESSION: [60000]}, "its compression is 60000, expected"),
        ({PHOTOMETRIC: [0]}, "its values mean miniswhite, expected grey, RGB or a palette"),
        ({PHOTOMETRIC: [8], SAMPLES: [3]}, "its values mean cielab, expected"),
        ({BITS: [65]}, "it holds 65 bits a value"),
        ({PHOTOMETRIC: [3]}, "its palette is "),
        ({COMPRESSION: [5], ROWS: [5]}, "its header lists 1 parts, expected 5"),
        ({COMPRESSION: [5], STRIPS: [0]}, "part 0 of 1 is empty"),
    ],
)
def test_a_tiff_of_a_kind_that_is_not_read_is_refused_in_words(changes, words, tmp_path):
    assert words in refusal(tmp_path / "t.tif", craft_tiff(STRIPED | changes))


def test_sizes_that_are_no_whole_numbers_are_refused(tmp_path):
    tags = STRIPED | {COMPRESSION: [5], COUNTS: [100], SAMPLES: [0x3F800000]}  # 1.0
    content = craft_tiff(tags, types={SAMPLES: 11}, data=imagecodecs.lzw_encode(bytes(480)))
    assert "'float' object cannot be interpreted as an integer" in refusal(tmp_path / "t.tif", content)


def test_a_damaged_png_never_reaches_the_decoder_which_would_print_and_drop_a_reference(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(imagecodecs, "png_decode", None)
    whole = WHOLE["colour.png"]
    place = whole.index(b"IDAT")
    damaged = whole[: place + 50] + bytes([whole[place + 50] ^ 1]) + whole[place + 51 :]
    assert f"its chunk b'IDAT' at byte {place - 4} is damaged" in refusal(tmp_path / "t.png", damaged)


def test_what_a_decoder_says_in_two_lines_becomes_one(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(imagecodecs, "jpeg8_decode", fail)
    assert refusal(tmp_path / "t.jpg", WHOLE["colour.jpg"]).startswith("first second)")


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path):
    for name in ("plain.tif", "strips.tif", "colour.jpg"):
        path, reader = tmp_path / name, RasterReader()
        path.write_bytes(WHOLE[name])
        reader.header(path)
        path.write_bytes(WHOLE[name][:100])
        with pytest.raises(DataError, match=r"cannot be read \(it has become shorter since it was opened\)"):
            reader.read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    for name in ("none.tif", "none.jpg", "folder.tif"):
        assert isinstance(read(tmp_path / name), str)
