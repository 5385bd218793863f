"""Vectors as files for other programs: Parquet with a column a point, or one array as npy. Never imports torch."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files.atomic import new_file
from pipeline.files.surface_tables import write_npy


def write_vectors(path: Path, blocks: Iterable[NDArray[np.float32]], *, count: int, dimension: int) -> None:
    """Write blocks [batch, D] that make up ``count`` vectors, one at a time.

    Parquet has a row a vector and the columns x1 to xD; npy is the float32 array [count, D]. The source ``array`` reads
    both.

    Raises:
        InputError: the file ends in neither .parquet nor .npy, or the path cannot be written.
    """
    if path.suffix == ".npy":
        write_npy(path, blocks, (count, dimension))
    elif path.suffix == ".parquet":
        schema = pa.schema([pa.field(f"x{point}", pa.float32(), nullable=False) for point in range(1, dimension + 1)])
        with new_file(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for block in blocks:
                writer.write_table(pa.table([pa.array(column) for column in block.T.copy()], schema=schema))
    else:
        raise InputError(f"{path} must end in .parquet or .npy")
