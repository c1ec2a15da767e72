"""The public basis of prompt codes, made of public captions with the bundle's own text encoder, as devices run it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge_sdk.errors import ConfigurationError, ExportError
from edge_sdk.inference import BASIS, Generator, PromptTruncated
from edge_sdk.inference.bundle import Bundle, BundleIndex, PromptBasis, hash_files, write_index
from edge_sdk.privacy import basis_id, make_basis, save_basis, unit_length


def add_basis(
    folder: Path,
    captions: Sequence[Sequence[str]],
    fused: Sequence[str] = (),
    on_progress: Callable[[float], None] = lambda share: None,
) -> BundleIndex:
    """Write the public basis into a float32 bundle, and name it in its index.

    A basis has the id of its sources: bundles of one base model in other precisions have the same, as their embeddings
    differ by rounding only.

    Args:
        folder: the bundle, in a folder that nobody uses yet.
        captions: the public captions of each style.
        fused: LoRA files that were added to the text encoder's weights, which make it another one: hashes and weights.
        on_progress: called with the share of the captions that are encoded.

    Raises:
        ExportError: the captions do not differ in enough directions.
    """
    bundle = Bundle.load(folder, verify=False)
    done, whole = 0, sum(map(len, captions))

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        nonlocal done
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptTruncated)
            embeddings = generator.encode_prompt(texts)[1]
        done += len(texts)
        on_progress(done / whole)
        return embeddings

    # Nobody draws with this bundle again.
    with Generator(bundle, prepare=False) as generator:
        encoder = "+".join([bundle.index.base_id, *fused])
        try:
            basis = make_basis([unit_length(encode, style) for style in captions], basis_id(encoder, captions))
        except ConfigurationError as error:
            raise ExportError(f"There is no basis of prompt codes: {error}") from error
    save_basis(basis, folder / BASIS)
    index = msgspec.structs.replace(bundle.index, prompt_basis=PromptBasis(id=basis.id), files=hash_files(folder))
    write_index(folder, index)
    return index
