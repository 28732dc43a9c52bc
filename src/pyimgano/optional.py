"""Optional packages: imported when they are needed, or named with the line that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from pyimgano.errors import MissingExtra

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["is_available", "require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module : str
        Import name, such as ``"onnxruntime"``.
    extra : str
        The extra of pyimgano that installs it.
    purpose : str
        What needs it, as the subject of the message: ``"extractor 'efficientnet_lite0'"``.

    Returns
    -------
    types.ModuleType
        The imported module.

    Raises
    ------
    MissingExtra
        If the module cannot be imported; the message holds the exact pip line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = (
            f"{purpose} needs the package {module!r} ({error}). "
            f'Install it with: pip install "pyimgano[{extra}]"'
        )
        raise MissingExtra(message, name=module) from error


def is_available(module: str) -> bool:
    """Tell whether ``module`` is installed, without importing it (its parent packages aside).

    A folder that happens to have its name is not it, though Python would import one as empty.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
