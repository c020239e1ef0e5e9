"""LZW streams: what encoders write passes the check, and what passes never ends the process."""

import io
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from mmbench.datasets._rasters.lzw import check_lzw

PICTURES = {
    "noise": np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8),
    "flat": np.zeros((300, 200, 3), np.uint8),
    "ramp": (np.indices((300, 200, 3)).sum(0) % 256).astype(np.uint8),
    "one pixel": np.full((1, 1, 3), 7, np.uint8),
}

# Damages streams at random and decodes what the check lets through.
_FUZZ = """
import imagecodecs
import numpy as np
from mmbench.datasets._rasters.lzw import check_lzw

rng = np.random.default_rng(0)
passed = refused = 0
for number in range(1500):
    size, spread = (48 * 48 * 3, 256) if number % 2 else (3000, 6)
    stream = bytearray(imagecodecs.lzw_encode(rng.integers(0, spread, size, np.uint8).tobytes()))
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(stream)))
        if rng.integers(3):
            stream[place : place + 2] = rng.bytes(2)
        else:
            stream = stream[: max(4, place)]
    try:
        check_lzw(bytes(stream))
    except ValueError:
        refused += 1
        continue
    imagecodecs.lzw_decode(bytes(stream))
    imagecodecs.lzw_decode(bytes(stream), out=size)
    passed += 1
print(passed, refused)
"""


def strips(tiff):
    with tifffile.TiffFile(io.BytesIO(tiff)) as opened:
        page = opened.pages.first
        return [
            tiff[offset : offset + count]
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]


@pytest.mark.parametrize("name", PICTURES)
def test_what_two_independent_encoders_write_passes(name):
    pixels = PICTURES[name]
    pillow, own = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(pillow, "TIFF", compression="tiff_lzw")
    tifffile.imwrite(own, pixels, compression="lzw", photometric="rgb", rowsperstrip=len(pixels))
    found = [*strips(pillow.getvalue()), *strips(own.getvalue())]
    assert len(found) >= 2
    for strip in found:
        check_lzw(strip)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "do not begin"),
        ([65, 66], "do not begin"),
        ([256, 300], "stands for nothing"),  # nothing can be named before the first letter
        ([256, 65, 259], "stands for nothing"),  # 258 is being made, 259 is not there
    ],
)
def test_a_code_that_stands_for_nothing_is_refused(codes, message):
    bits = "".join(f"{code:09b}" for code in codes)
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0") or "0", 2).to_bytes(-(-len(bits) // 8), "big")
    with pytest.raises(ValueError, match=message):
        check_lzw(data)


def test_a_code_that_is_just_being_made_may_be_named():
    bits = f"{256:09b}{65:09b}{258:09b}{257:09b}".ljust(40, "0")
    data = int(bits, 2).to_bytes(5, "big")
    check_lzw(data)
    assert imagecodecs.lzw_decode(data) == b"AAA"


def test_a_table_that_is_never_cleared_is_refused():
    letters = np.random.default_rng(1).integers(0, 256, 5000).tolist()
    bits, size = [f"{256:09b}"], 258
    for letter in letters:
        width = max(9, min(12, size.bit_length()))
        bits.append(f"{letter:0{width}b}")
        size += 1
    text = "".join(bits).ljust(8 * 10_000, "0")
    with pytest.raises(ValueError, match="never cleared"):
        check_lzw(int(text, 2).to_bytes(len(text) // 8, "big"))


def test_no_damaged_stream_that_passes_ends_the_process():
    done = subprocess.run([sys.executable, "-c", _FUZZ], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    passed, refused = map(int, done.stdout.split())
    assert passed > 300
    assert refused > 300
