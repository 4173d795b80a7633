"""Reading npz files that a stranger may have written: no member costs more memory than the file has bytes.

NumPy's own reader refuses pickles, but unpacks a zip bomb, and allocates what a header declares before it looks for it.
Files of this project hold their arrays as they are, uncompressed, in version 1.0 of the npy format.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

VERSION = (1, 0)  # of the npy format


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members are stored as they are.

    Raises:
        ValueError: a member is compressed, or they claim more bytes than the file has.
        zipfile.BadZipFile: it is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, as no file of this program is")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its members claim more bytes than it has")
        yield archive


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of member `name.npy`, whose CRC is verified.

    Raises:
        ValueError: its header declares objects, or another number of bytes than there are.
        KeyError: there is no such member.
    """
    data = bytearray(archive.read(f"{name}.npy"))
    stream = io.BytesIO(data)
    if (version := np.lib.format.read_magic(stream)) != VERSION:
        raise ValueError(f"{name} is of version {version} of the npy format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects instead of numbers")
    if dtype.itemsize * np.prod(shape, dtype=object) != len(data) - stream.tell():
        raise ValueError(f"{name} declares {dtype} {list(shape)}, which is not what it holds")
    return np.ndarray(shape, dtype, data, stream.tell(), order="F" if is_fortran else "C")
