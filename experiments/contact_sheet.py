"""Frames of an open-loop GIF as one picture: `python experiments/contact_sheet.py GIF OUT.png`.

Columns are time, left to right; rows are truth, prediction and error of one sequence. The first `CONTEXT` frames of a
sequence are observed, the others imagined (`dreamer/training/open_loop.py`).
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from dreamer.training.video import contact_sheet, write_png

COLUMNS = 8
SCALE = 2


def main() -> None:
    """Takes the first sequence of the GIF at evenly spaced times and enlarges it."""
    source, target = sys.argv[1:]
    with Image.open(source) as gif:
        frames = []
        for index in range(getattr(gif, "n_frames", 1)):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")))
    width = frames[0].shape[0] // 3  # square images: a frame holds three rows of them
    times = np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)
    chosen = np.stack([frames[time][:, :width] for time in times])
    write_png(target, contact_sheet(chosen, columns=COLUMNS).repeat(SCALE, axis=0).repeat(SCALE, axis=1))
    print(f"{target}: times {', '.join(map(str, times))}")


if __name__ == "__main__":
    main()
