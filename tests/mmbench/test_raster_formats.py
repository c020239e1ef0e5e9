"""Every way in which ISPRS data are stored, written by others' programs and read back.

Axes: H W pixels, C channel.
"""

import itertools
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest
import tifffile

from mmbench.datasets._dataset import Window
from mmbench.datasets._rasters.reader import RasterReader
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.datasets.vaihingen import Vaihingen

needs_gdal = pytest.mark.skipif(
    shutil.which("gdal_translate") is None, reason="GDAL's programs are not installed (gdal-bin)"
)

# No side is a multiple of a tile or strip.
HEIGHT, WIDTH = 101, 67
CHANNELS = {"grey": 1, "colours": 3, "four bands": 4, "heights": 1}
WINDOWS = [
    Window(0, 0, 1, 1),
    Window(13, 5, 40, 50),
    Window(15, 16, 2, 2),
    Window(100, 0, 1, 67),
    Window(0, 66, 101, 1),
    Window(31, 15, 66, 34),
]
GDAL = {
    "strips": "BLOCKYSIZE=7",
    "one strip": "BLOCKYSIZE=101",
    "tiles": "TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=16",
    "lzw strips": "COMPRESS=LZW BLOCKYSIZE=7",
    "lzw one strip": "COMPRESS=LZW BLOCKYSIZE=101 PREDICTOR=2",
    "lzw tiles": "COMPRESS=LZW TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=16",
    "deflate strips": "COMPRESS=DEFLATE BLOCKYSIZE=10 PREDICTOR=2",
    "deflate tiles": "COMPRESS=DEFLATE TILED=YES BLOCKXSIZE=16 BLOCKYSIZE=48",
    "float predictor": "COMPRESS=DEFLATE PREDICTOR=3 TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=32",
    "packbits": "COMPRESS=PACKBITS BLOCKYSIZE=9",
    "planes": "INTERLEAVE=BAND BLOCKYSIZE=101",
    "planes in strips": "INTERLEAVE=BAND BLOCKYSIZE=8",
    "planes in lzw tiles": "INTERLEAVE=BAND COMPRESS=LZW PREDICTOR=2 TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=16",
    "big file": "BIGTIFF=YES BLOCKYSIZE=7",
    "big file lzw tiles": "BIGTIFF=YES COMPRESS=LZW TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=16",
    "big endian": "ENDIANNESS=BIG BLOCKYSIZE=7",
    "big endian lzw": "ENDIANNESS=BIG COMPRESS=LZW PREDICTOR=2 BLOCKYSIZE=7",
    "world file": "TFW=YES COMPRESS=LZW",
}
TIFFFILE = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "lzw one strip": {"compression": "lzw", "rowsperstrip": 101},
    "lzw strips": {"compression": "lzw", "rowsperstrip": 10},
    "lzw tiles": {"compression": "lzw", "tile": (16, 32), "predictor": True},
    "deflate strips": {"compression": "zlib", "rowsperstrip": 7},
    "deflate tiles": {"compression": "zlib", "tile": (48, 16), "predictor": True},
    "packbits": {"compression": "packbits", "rowsperstrip": 7},
    "zstandard": {"compression": "zstd", "rowsperstrip": 7},
    "big endian": {"byteorder": ">"},
    "big endian lzw tiles": {"byteorder": ">", "compression": "lzw", "tile": (32, 32), "predictor": True},
    "big file": {"bigtiff": True, "compression": "lzw", "rowsperstrip": 7},
    "planes": {"planarconfig": "separate"},
    "planes in strips": {"planarconfig": "separate", "rowsperstrip": 7},
    "planes in lzw tiles": {"planarconfig": "separate", "compression": "lzw", "tile": (32, 16)},
    "big endian planes": {"planarconfig": "separate", "byteorder": ">", "rowsperstrip": 101},
}
PILLOW = {
    "uncompressed": {"compression": None},
    "lzw": {"compression": "tiff_lzw"},
    "deflate": {"compression": "tiff_adobe_deflate"},
    "packbits": {"compression": "packbits"},
    "big file": {"compression": "tiff_lzw", "big_tiff": True},
}


def make_pixels(kind, height=HEIGHT, width=WIDTH):
    """Return (H, W, C) uint8 with noise upon a slope, or float32 metres."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    rows, columns = np.mgrid[:height, :width]
    slope = (rows + columns)[..., None] + 20 * np.arange(CHANNELS[kind])
    if kind == "heights":
        return (260 + slope / 10 + rng.normal(size=slope.shape)).astype(np.float32)
    return np.minimum(slope + rng.integers(0, 20, slope.shape), 255).astype(np.uint8)


def run_gdal(*words):
    subprocess.run([*map(str, words)], check=True, capture_output=True)


def write_with_gdal(path, pixels, options, *more):
    """Write a raster of GDAL's simplest kind by hand and have GDAL turn it into something else."""
    raw = path.with_name(f"{path.stem}.raw")
    pixels.astype(pixels.dtype.newbyteorder("<")).tofile(raw)
    height, width, channels = pixels.shape
    raw.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {width}\nlines = {height}\nbands = {channels}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = {1 if pixels.dtype == np.uint8 else 4}\n"
        "interleave = bip\nbyte order = 0\n"
    )
    creation = [word for option in options.split() for word in ("-co", option)]
    kind = {".tif": "GTiff", ".jpg": "JPEG", ".png": "PNG"}[path.suffix]
    run_gdal("gdal_translate", "-q", "-of", kind, *creation, *more, raw, path)
    raw.unlink()
    raw.with_suffix(".hdr").unlink()


def write_with_tifffile(path, pixels, options):
    options = dict(options)
    channels = pixels.shape[2]
    if channels > 1:
        options["extrasamples"] = ["unspecified"] * (channels - 3)
        options.setdefault("planarconfig", "contig")
        if options["planarconfig"] == "separate":
            pixels = np.moveaxis(pixels, -1, 0).copy()
    else:
        options.pop("planarconfig", None)
        pixels = pixels[..., 0]
    tifffile.imwrite(path, pixels, photometric="rgb" if channels > 1 else "minisblack", **options)


def write_with_pillow(path, pixels, options):
    PIL.Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]).save(path, **options)


WRITERS = {
    "gdal": (write_with_gdal, GDAL),
    "tifffile": (write_with_tifffile, TIFFFILE),
    "pillow": (write_with_pillow, PILLOW),
}


def cases():
    """Yield every writer with every format and kind of pixels that it can write."""
    for name, (_, formats) in WRITERS.items():
        for form, kind in itertools.product(formats, CHANNELS):
            single = CHANNELS[kind] == 1
            if (form == "float predictor" and kind != "heights") or ("planes" in form and single):
                continue
            marks = [needs_gdal] if name == "gdal" else []
            yield pytest.param(name, form, kind, id=f"{name}-{form}-{kind}", marks=marks)


def check_reading(path, pixels):
    """Compare a file with what was written: its header, all of it, windows, and bands of rows."""
    reader = RasterReader()
    header = reader.header(path)
    assert (*header.size, header.channels) == pixels.shape
    assert header.dtype == pixels.dtype
    assert header.dtype.isnative
    for window in WINDOWS:  # before the whole, so that nothing is decoded yet
        top, left, height, width = window
        part = RasterReader().read(path, window)
        np.testing.assert_array_equal(part, pixels[top : top + height, left : left + width])
    whole = reader.read(path)
    assert whole.dtype == pixels.dtype
    assert whole.dtype.isnative
    np.testing.assert_array_equal(whole, pixels)
    np.testing.assert_array_equal(np.concatenate([*reader.bands(path)]), pixels)


@pytest.mark.parametrize(("writer", "form", "kind"), list(cases()))
def test_what_another_program_wrote_is_read_back_equal(writer, form, kind, tmp_path):
    write, formats = WRITERS[writer]
    pixels = make_pixels(kind)
    write(tmp_path / "tile.tif", pixels, formats[form])
    check_reading(tmp_path / "tile.tif", pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiles_as_wide_as_the_picture_are_one_block_of_pixels(byteorder, tmp_path):
    pixels = np.random.default_rng(0).random((96, 64, 1), np.float32)
    tifffile.imwrite(tmp_path / "t.tif", pixels[..., 0], tile=(32, 64), byteorder=byteorder)
    np.testing.assert_array_equal(RasterReader().read(tmp_path / "t.tif"), pixels)


@needs_gdal
@pytest.mark.parametrize("options", ["COMPRESS=LZW", "COMPRESS=DEFLATE PREDICTOR=YES"])
def test_a_cloud_optimised_file_with_mask_and_smaller_copies_gives_its_first_picture(options, tmp_path):
    pixels = make_pixels("colours", 300, 270)
    write_with_gdal(tmp_path / "plain.tif", pixels, "TILED=YES")
    path = tmp_path / "cog.tif"
    creation = [word for option in f"{options} BLOCKSIZE=128".split() for word in ("-co", option)]
    run_gdal("gdal_translate", "-q", "-of", "COG", "-mask", 1, *creation, tmp_path / "plain.tif", path)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) > 2
    np.testing.assert_array_equal(RasterReader().read(path), pixels)


@needs_gdal
@pytest.mark.parametrize("place", ["in the file", "beside it"])
def test_smaller_copies_that_were_added_later_are_passed_by(place, tmp_path):
    pixels, path = make_pixels("four bands", 300, 270), tmp_path / "t.tif"
    write_with_gdal(path, pixels, "COMPRESS=LZW")
    run_gdal("gdaladdo", "-q", *(["-ro"] if place == "beside it" else []), path, 2, 4)
    assert (tmp_path / "t.tif.ovr").exists() == (place == "beside it")
    np.testing.assert_array_equal(RasterReader().read(path), pixels)


def test_a_smaller_copy_or_mask_that_comes_first_is_passed_by(tmp_path):
    pixels, path = make_pixels("colours"), tmp_path / "t.tif"
    with tifffile.TiffWriter(path) as file:
        for kind in (0b101, 0b1, 0b0, 0b1):  # a smaller copy's mask, a copy, the picture, a copy
            part = pixels[::2, ::2] if kind else pixels
            file.write(part[..., 0] if kind == 0b101 else part, subfiletype=kind & 0b1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["NewSubfileType"].overwrite(0b101)
    check_reading(path, pixels)


def test_a_picture_that_calls_itself_a_copy_is_read_if_there_is_no_other(tmp_path):
    pixels, path = make_pixels("grey"), tmp_path / "t.tif"
    tifffile.imwrite(path, pixels[..., 0], subfiletype=1)
    check_reading(path, pixels)


def test_a_palette_is_read_as_the_colours_it_stands_for(tmp_path):
    colours = np.array([(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)], np.uint8)
    indices = np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH), np.uint8)
    picture = PIL.Image.fromarray(indices).convert("P")
    picture.putpalette(colours.tobytes())
    forms = {
        "t.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
        "t.png": {},
        "clear.png": {"transparency": 2},
    }
    for name, options in forms.items():
        picture.save(tmp_path / name, **options)
        check_reading(tmp_path / name, colours[indices])


@pytest.mark.parametrize("kind", ["grey", "colours", "four bands"])
def test_a_png_is_read_back_equal(kind, tmp_path):
    pixels = make_pixels(kind)
    write_with_pillow(tmp_path / "t.png", pixels, {})
    check_reading(tmp_path / "t.png", pixels)


JPEG = {
    "baseline": {"quality": 90},
    "progressive": {"quality": 90, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "best": {"quality": 100, "subsampling": 0},
}


def decode_with_pillow(path):
    with PIL.Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def check_jpeg(path, kind):
    """Compare with Pillow's decoder, and windows with the whole."""
    pixels = RasterReader().read(path)
    assert pixels.shape == (HEIGHT, WIDTH, CHANNELS[kind])
    assert np.abs(pixels.astype(int) - decode_with_pillow(path)).max() <= 2
    assert np.abs(pixels.astype(int) - make_pixels(kind)).mean() < 12  # so colours are where they belong
    check_reading(path, pixels)


@pytest.mark.parametrize("kind", ["grey", "colours"])
@pytest.mark.parametrize("form", JPEG)
def test_a_jpeg_is_read_as_another_decoder_reads_it(form, kind, tmp_path):
    write_with_pillow(tmp_path / "t.jpg", make_pixels(kind), JPEG[form])
    check_jpeg(tmp_path / "t.jpg", kind)


@needs_gdal
@pytest.mark.parametrize("kind", ["grey", "colours"])
@pytest.mark.parametrize("options", ["QUALITY=90 WORLDFILE=YES", "QUALITY=90 PROGRESSIVE=ON"])
def test_a_jpeg_of_gdal_is_read_as_another_decoder_reads_it(options, kind, tmp_path):
    write_with_gdal(tmp_path / "t.jpg", make_pixels(kind), options)
    check_jpeg(tmp_path / "t.jpg", kind)


@needs_gdal
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("grey", "BLOCKYSIZE=16"),
        ("grey", "TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=32"),
        ("colours", "BLOCKYSIZE=101"),
        ("colours", "PHOTOMETRIC=YCBCR BLOCKYSIZE=16"),
        ("colours", "PHOTOMETRIC=YCBCR TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=16"),
        ("colours", "INTERLEAVE=BAND TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=32"),
    ],
)
def test_jpeg_in_tiff_is_read_as_another_decoder_reads_it(kind, options, tmp_path):
    write_with_gdal(tmp_path / "t.tif", make_pixels(kind), f"COMPRESS=JPEG JPEG_QUALITY=90 {options}")
    check_jpeg(tmp_path / "t.tif", kind)


def test_jpeg_in_tiff_holds_rgb_if_the_tiff_says_so_and_the_jpeg_does_not(tmp_path):
    path, options = tmp_path / "t.tif", {"compressionargs": {"level": 95, "outcolorspace": "RGB"}}
    tifffile.imwrite(path, make_pixels("colours"), photometric="rgb", compression="jpeg", **options)
    content = bytearray(path.read_bytes())
    # Frame and scan header name the components R, G, B; to the decoder the numbers 1, 2, 3 mean YCbCr.
    frame, scan = content.index(b"\xff\xc0") + 10, content.index(b"\xff\xda") + 5
    for number in range(3):
        assert content[frame + 3 * number] == content[scan + 2 * number] == b"RGB"[number]
        content[frame + 3 * number] = content[scan + 2 * number] = number + 1
    path.write_bytes(content.replace(b"\xff\xee", b"\xff\xfe"))  # nor does a marker of Adobe's say more
    check_jpeg(path, "colours")


@needs_gdal
def test_jpeg_in_tiff_with_four_bands_is_read_as_gdal_reads_it(tmp_path):
    path, plain = tmp_path / "t.tif", tmp_path / "plain.tif"
    write_with_gdal(path, make_pixels("four bands"), "COMPRESS=JPEG TILED=YES BLOCKXSIZE=32 BLOCKYSIZE=32")
    run_gdal("gdal_translate", "-q", "-co", "INTERLEAVE=PIXEL", path, plain)
    assert np.abs(RasterReader().read(path).astype(int) - tifffile.imread(plain)).max() <= 2


def test_a_window_of_a_large_tiled_file_decodes_the_tiles_that_it_touches_and_no_more(tmp_path):
    path, reader = tmp_path / "t.tif", RasterReader()
    pixels = np.add.outer(np.arange(6000), np.arange(6000)).astype(np.uint8)
    tifffile.imwrite(path, pixels, compression="lzw", tile=(256, 256))
    window = reader.read(path, Window(1000, 2000, 512, 512))
    np.testing.assert_array_equal(window[..., 0], pixels[1000:1512, 2000:2512])
    assert reader.held_bytes == 9 * 256 * 256
    reader.read(path, Window(1100, 2100, 100, 100))
    assert reader.held_bytes == 9 * 256 * 256
    reader.read(path, Window(5990, 5990, 10, 10))  # the corner tile is 112 pixels wide
    assert reader.held_bytes == 9 * 256 * 256 + 112 * 112


DATASETS = {"potsdam": Potsdam, "vaihingen": Vaihingen}
TILES = {"potsdam": ("2_10", "6_9", "2_13"), "vaihingen": ("1", "30", "2")}
REWRITTEN = [
    *(
        pytest.param("gdal", form, marks=needs_gdal)
        for form in ("lzw strips", "lzw tiles", "big file lzw tiles")
    ),
    *(("tifffile", form) for form in TIFFFILE),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write three tiles of both layouts; return (folder, layout -> tile -> sample)."""
    root, samples = tmp_path_factory.mktemp("isprs"), {}
    for layout, tiles in TILES.items():
        write_isprs_folder(layout, root / layout, size=72, tiles=tiles)
        (root / f"{layout}.yaml").write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*tiles))
        samples[layout] = read_all(open_layout(root, root / layout, layout))
    return root, samples


def open_layout(root, folder, layout):
    return DATASETS[layout](root=folder, split=root / f"{layout}.yaml", height="dsm")


def read_all(reader):
    return {tile: reader.read(tile, labels=reader.split.labels_of(tile)) for tile in reader.tiles}


@pytest.mark.parametrize("layout", TILES)
@pytest.mark.parametrize(("writer", "form"), REWRITTEN)
def test_a_folder_in_any_format_is_read_as_the_uncompressed_one(writer, form, layout, written, tmp_path):
    root, samples = written
    shutil.copytree(root / layout, tmp_path / layout)
    write, formats = WRITERS[writer]
    for file in open_layout(root, tmp_path / layout, layout).files():
        pixels = tifffile.imread(file.path)
        write(file.path, pixels if pixels.ndim == 3 else pixels[..., None], formats[form])
        for suffix in (".tfw", ".jgw", ".tif.aux.xml", ".tif.ovr"):
            file.path.with_suffix(suffix).write_text("not a picture")
    for tile, sample in read_all(open_layout(root, tmp_path / layout, layout)).items():
        for key, image in samples[layout][tile].images.items():
            np.testing.assert_array_equal(sample.images[key], image)
        np.testing.assert_array_equal(sample.target, samples[layout][tile].target)


def test_a_height_of_5999_columns_covers_a_tile_of_6000(tmp_path):
    folder = tmp_path / "potsdam"
    write_isprs_folder("potsdam", folder, size=16, tiles=("3_13", "2_10"))
    (tmp_path / "potsdam.yaml").write_text("train: [3_13]\ntest: [2_10]\n")
    options = {"photometric": "rgb", "compression": "zlib", "tile": (512, 512)}
    picture = np.zeros((6000, 6000, 4), np.uint8)
    tifffile.imwrite(
        folder / "4_Ortho_RGBIR/top_potsdam_3_13_RGBIR.tif", picture, extrasamples=["unspecified"], **options
    )
    label = folder / "5_Labels_for_participants/top_potsdam_3_13_label.tif"
    label.parent.mkdir(exist_ok=True)
    tifffile.imwrite(label, np.full((6000, 6000, 3), 255, np.uint8), **options)
    heights = np.repeat(np.arange(6000, dtype=np.uint16)[:, None] // 24, 5999, axis=1).astype(np.uint8)
    heights[:, 5900:] = 120
    height = folder / "1_DSM_normalisation/dsm_potsdam_03_13_normalized_lastools.jpg"
    PIL.Image.fromarray(heights).save(height, quality=100)
    reader = Potsdam(root=folder, split=tmp_path / "potsdam.yaml")
    assert reader.size("3_13") == (6000, 6000)
    metres = reader.read("3_13", Window(5500, 5488, 500, 512)).images["ndsm"]
    assert metres.shape == (1, 500, 512)
    np.testing.assert_allclose(metres[0, :, -100:], 12.0, atol=0.11)
    np.testing.assert_allclose(metres[0, :, :400], heights[5500:, 5488:5888] / 10, atol=0.21)
