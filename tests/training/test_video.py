from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dreamer.training.video import contact_sheet, encode_gif, open_loop_strip, write_gif, write_mp4, write_png


def moving_square(num_frames: int = 6, size: int = 16, channels: int = 3) -> np.ndarray:
    frames = np.zeros((num_frames, size, size, channels), np.uint8)
    for index, frame in enumerate(frames):
        frame[index : index + 4, index : index + 4] = 255
    return frames


def test_open_loop_strip_has_truth_above_prediction_above_error():
    truth = np.stack([moving_square(), np.full((6, 16, 16, 3), 100, np.uint8)])
    prediction = truth.copy()
    prediction[1] = 160
    strip = open_loop_strip(truth, prediction)
    assert strip.shape == (6, 48, 32, 3)
    assert strip.dtype == np.uint8
    np.testing.assert_array_equal(strip[2, :16, :16], truth[0, 2])
    np.testing.assert_array_equal(strip[2, 16:32, 16:], prediction[1, 2])
    assert (strip[:, 32:, :16] == 127).all()  # no error is grey
    assert (strip[:, 32:, 16:] == 157).all()  # 60 too bright


def test_error_spans_the_whole_range():
    black, white = np.zeros((1, 1, 1, 1, 1), np.uint8), np.full((1, 1, 1, 1, 1), 255, np.uint8)
    assert open_loop_strip(black, white)[0, 2, 0, 0] == 255
    assert open_loop_strip(white, black)[0, 2, 0, 0] == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
def test_any_number_of_channels_becomes_rgb(channels):
    truth = moving_square(channels=channels)[None]
    strip = open_loop_strip(truth, truth)
    assert strip.shape == (6, 48, 16, 3)
    assert strip[0, 0, 0, 0] == 255


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        (np.zeros((1, 2, 4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4, 3), np.uint8)),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), np.zeros((1, 2, 4, 4, 3), np.float32)),
    ],
)
def test_wrong_images_are_refused(truth, prediction):
    with pytest.raises(ValueError, match="Need"):
        open_loop_strip(truth, prediction)


def test_contact_sheet_reads_like_a_page():
    frames = moving_square(num_frames=5)
    sheet = contact_sheet(frames, columns=3)
    assert sheet.shape == (32, 48, 3)
    np.testing.assert_array_equal(sheet[16:, :16], frames[3])
    assert (sheet[16:, 32:] == 0).all()


def test_gif_plays(tmp_path):
    write_gif(tmp_path / "square.gif", moving_square(), fps=10)
    with Image.open(tmp_path / "square.gif") as image:
        assert image.n_frames == 6
        assert image.size == (16, 16)
        assert image.info["duration"] == 100
        image.seek(5)
        frame = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(frame, moving_square()[5])


def test_gif_of_one_grey_frame():
    with Image.open(io.BytesIO(encode_gif(moving_square(1, channels=1), fps=5))) as image:
        assert image.n_frames == 1


def test_png_is_exact(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    write_png(tmp_path / "sheet.png", picture)
    with Image.open(tmp_path / "sheet.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_mp4_plays_even_with_odd_sizes(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="ffmpeg comes with the `video` extra")
    frames = np.repeat(moving_square(num_frames=6, size=33), 4, axis=0)
    write_mp4(tmp_path / "square.mp4", frames, fps=12)
    decode = ["-loglevel", "error", "-i", tmp_path / "square.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run([ffmpeg.get_ffmpeg_exe(), *decode], capture_output=True, check=True).stdout
    video = np.frombuffer(decoded, np.uint8).reshape(-1, 34, 34, 3)
    assert len(video) == 24
    assert np.abs(video[:, :33, :33].astype(int) - frames).mean() < 10


def test_mp4_into_a_missing_folder_says_so(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="ffmpeg comes with the `video` extra")
    with pytest.raises(RuntimeError, match="No such file"):
        write_mp4(tmp_path / "missing" / "square.mp4", moving_square(), fps=10)


def test_mp4_without_ffmpeg_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(RuntimeError, match=r"dreamer-jax\[video\]"):
        write_mp4(tmp_path / "square.mp4", moving_square(), fps=10)
