"""Nearest neighbours with torch: products in bfloat16 where the hardware has them, or float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from pyimgano.models._bounds import centred, slack
from pyimgano.models._nearest import INDEXES
from pyimgano.models._proposals import ProposingIndex
from pyimgano.optional import require
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from pyimgano.models._exact_search import Bank
    from pyimgano.models._proposals import Asked, Proposed

_CPU_FACTS = Path("/proc/cpuinfo")
_PRODUCT_ELEMENTS = 1 << 24
_COARSE = 5 * 2.0**-8
"""Share of |x| |y| by which rounding to bfloat16 moves a product x y.

Each factor moves by 2^-8 of itself, and the result twice at most: where partial sums are rounded
before they are added, and at the end. The fifth is for products of these roundings.
"""


def _torch() -> ModuleType:
    return require("torch", extra="torch", purpose="index 'torch'")


@final
@INDEXES.register(
    "torch",
    Metadata(
        summary="Exact: torch proposes, the error bound decides, numpy settles the rest.",
        licence="BSD-3-Clause",
        extra="torch",
        modules=("torch",),
    ),
)
class TorchIndex(ProposingIndex):
    """Exact nearest neighbours by matrix products in torch, on a CUDA device if there is one.

    The answers equal those of `NumpyIndex`. Products are in bfloat16 on CUDA and on processors
    with AVX512-BF16 or AMX, else in float32. torch holds a copy of the bank in that type, and
    products of some 64 MB.
    """

    def _hold(self, bank: Bank) -> None:
        torch = _torch()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        halved = self._device == "cuda" or _multiplies_bfloat16()
        self._type = torch.bfloat16 if halved else torch.float32
        self._rows: Any = self._sent(centred(bank.rows, bank.shift)[0])
        self._norms = bank.norms

    def _sent(self, rows: NDArray[np.float32]) -> Any:
        return _torch().from_numpy(rows).to(self._device, self._type)

    def _propose(self, asked: Asked) -> Proposed:
        torch, (shifted, norms, width, seen) = _torch(), asked
        error = self._error(shifted.shape[1])
        squared = (1 - error) * self._norms**2
        if seen is not None:
            squared[~seen] = np.inf
        offset = torch.from_numpy(squared.astype(np.float32)).to(self._device)
        step = max(1, _PRODUCT_ELEMENTS // len(squared))
        near, found = np.empty(len(shifted)), np.empty((len(shifted), width), np.int64)
        for start in range(0, len(shifted), step):
            part = slice(start, start + step)
            products = (self._sent(shifted[part]) @ self._rows.T).float()
            lower = torch.add(offset, products, alpha=-2, out=products)
            least, columns = lower.topk(width, largest=False)
            near[part], found[part] = least[:, -1].cpu(), columns.cpu()
        underflow = 4 * (shifted.shape[1] + 16) * float(np.finfo(np.float32).tiny)
        return found, near + (1 - error) * norms**2 - underflow

    def _error(self, d: int) -> float:
        """Return c such that a squared distance is at most c (|x|^2 + |y|^2) below its product.

        2 |x| |y| and half of (|x| + |y|)^2 are both at most |x|^2 + |y|^2.
        """
        torch = _torch()
        coarse = self._type is not torch.float32 or _rounds_float32(torch)
        return 2 * slack(d) + _COARSE * coarse


def _multiplies_bfloat16() -> bool:
    """Tell whether the processor does; where that cannot be read, float32 serves as well."""
    try:
        facts = _CPU_FACTS.read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in facts or "amx_bf16" in facts


def _rounds_float32(torch: ModuleType) -> bool:
    """Tell whether the user lets torch round the factors of float32 products (TF32, bfloat16)."""
    try:
        return bool(torch.get_float32_matmul_precision() != "highest")
    except RuntimeError:  # precision was set for one backend alone: torch names none for all
        return True
