"""One hash for a set of weights, independent of how they are spread over files."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path

from hybridqa.errors import ModelError


def fingerprint_weights(folder: Path) -> str:
    """Return the SHA-256 over all tensors in a folder's safetensors files.

    Tensors are taken in the order of their names, each as name, dtype, shape and raw bytes, so
    that neither sharding nor file order changes the result.

    Raises:
        ModelError: There are no safetensors files (pickled weights are not loaded), or one of
            them is not valid.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"Model folder `{folder}` has no `*.safetensors` weights. Pickled weights are not "
            "loaded; convert them with `save_pretrained(..., safe_serialization=True)`."
        )
    tensors = sorted(tensor for file in files for tensor in _tensors(file))
    digest = hashlib.sha256()
    maps: dict[Path, mmap.mmap] = {}
    try:
        for name, dtype, shape, file, begin, end in tensors:
            if file not in maps:
                with file.open("rb") as handle:
                    maps[file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            digest.update(f"{name}|{dtype}|{shape}|".encode())
            with memoryview(maps[file]) as view, view[begin:end] as tensor:
                digest.update(tensor)
    finally:
        for mapped in maps.values():
            mapped.close()
    return digest.hexdigest()


def _tensors(file: Path) -> Iterator[tuple[str, str, str, Path, int, int]]:
    """Yield (name, dtype, shape, file, first byte, end byte) from a safetensors header."""
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 2 <= length <= 100_000_000:
                raise ValueError(f"header length {length}")
            header = json.loads(handle.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                shape = "x".join(map(str, entry["shape"]))
                yield name, entry["dtype"], shape, file, 8 + length + begin, 8 + length + end
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelError(
            f"`{file}` is not a valid safetensors file ({exc}). Fetch the model again."
        ) from exc
