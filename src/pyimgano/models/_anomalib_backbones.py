"""Backbones of anomalib's models from a file that the user names; nothing is downloaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyimgano.errors import ArchiveError
from pyimgano.features._checkpoint import _difference, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["local_backbones"]


@contextmanager
def local_backbones(weights: Path | None = None) -> Iterator[list[str]]:
    """Let networks of timm and torchvision be built from a file, or left at random.

    Some models ask for pre-trained weights whatever they are told, and would wait for a network.

    Parameters
    ----------
    weights : Path, optional
        A state dict of the whole backbone, by the names of its library; a head may be missing.

    Yields
    ------
    list of str
        Names of the networks for which pre-trained weights were asked so far.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or holds another network.
    """
    import timm
    from torchvision.models import WeightsEnum

    state = None if weights is None else read_checkpoint(weights)
    asked: list[str] = []
    build, verify, fetch = (
        timm.create_model,
        vars(WeightsEnum)["verify"],
        WeightsEnum.get_state_dict,
    )

    def built(name: str, pretrained: bool = False, *given: Any, **named: Any) -> Any:
        network = build(name, False, *given, **named)
        if pretrained:
            asked.append(name)
            if state is not None:
                _fill(network, state, f"{weights} holds no weights of {name}")
        return network

    def none(kind: Any, found: Any) -> Any:
        if found is not None:
            asked.append(kind.__name__.removesuffix("_Weights").lower())
        return found if state is not None else None

    timm.create_model = built
    WeightsEnum.verify = classmethod(none)
    WeightsEnum.get_state_dict = lambda *_given, **_named: state
    try:
        yield asked
    finally:
        timm.create_model = build
        WeightsEnum.verify, WeightsEnum.get_state_dict = verify, fetch


def _fill(network: Any, state: dict[str, Any], complaint: str) -> None:
    """Fill a network, of which there may be less than in the state: every number must be there.

    timm joins the names of layers by underscores where it gives intermediate features.
    """
    own = network.state_dict()
    flat = {name.replace(".", "_"): tensor for name, tensor in state.items()}
    found = {name: flat[key] for name in own if (key := name.replace(".", "_")) in flat}
    counters = {name for name in own if name.endswith("num_batches_tracked")} - found.keys()
    wrong = _difference(found, {name: own[name] for name in own.keys() - counters})
    if wrong:
        raise ArchiveError(f"{complaint}: {wrong}")
    network.load_state_dict({**own, **found})
