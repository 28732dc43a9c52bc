"""From a model's reading of an image to a verdict; whatever goes wrong becomes an ERROR."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyimgano import images
from pyimgano.ahead import batched, prefetch
from pyimgano.errors import ImageError, InputError, PyimganoError, UnjudgedError
from pyimgano.inspection import Inspection, Inspections, Verdict
from pyimgano.maps.regions import find_regions
from pyimgano.records import Sample
from pyimgano.views.looks import figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Batchwise", "Judge", "Reading", "attempt", "require_company", "require_judged"]


class Reading(NamedTuple):
    """What a model says of one image before any threshold: a score and, if it draws, a map."""

    score: float
    map: NDArray[np.float32] | None = None


def attempt(function: Callable[..., Any], *given: Any) -> Any:
    """Return the result, or the error itself: one image must never end a batch."""
    try:
        return function(*given)
    except Exception as error:  # noqa: BLE001 - whatever it is, the record says it
        return error


class Batchwise:
    """The hooks of a detector that judges the images of a batch by each other."""

    @property
    def is_transductive(self) -> bool:
        """Whether a score belongs to the batch: every image is judged by all others in it."""
        return False

    def _look(self, image: NDArray[np.uint8]) -> Any:
        """Return what is kept of an image until all others were seen; if transductive."""
        raise NotImplementedError

    def _read_together(self, looks: Sequence[Any]) -> Sequence[Reading]:
        """Return a reading of each image of a batch, judged by the others; if transductive.

        `require_company` comes first: of one image alone nothing can be said.
        """
        raise NotImplementedError


def _weight(seen: Any) -> int:
    """Return the bytes of what is seen of an image; an error weighs nothing."""
    return 0 if isinstance(seen, Exception) else seen.image.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Turns readings into records.

    Parameters
    ----------
    infer : callable
        Images (H, W, 3) to readings, each independent of the others.
    finish : callable
        Post-processing of a map.
    threshold, pixel_threshold : float or None
        None where nothing was calibrated.
    """

    infer: Callable[[Sequence[NDArray[np.uint8]]], list[Reading]]
    finish: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    threshold: float | None
    pixel_threshold: float | None

    def stream(
        self,
        sources: Iterable[Any],
        see: Callable[[Any], NDArray[np.uint8]],
        view: Callable[[NDArray[np.uint8]], Any],
        size: int,
        detector: Batchwise,
    ) -> Iterator[Inspection]:
        """Read with ``see``, look with ``view``, judge each image or batches of ``size``."""
        lights = deque[Any]()

        def look(source: Any) -> tuple[Any, Any, Any]:
            image = attempt(see, source)
            if isinstance(image, Exception):
                return source, image, None
            seen = attempt(view, image)
            return source, seen, None if isinstance(seen, Exception) else figures(image)

        def pairs() -> Iterator[tuple[Any, Any]]:
            for source, image, light in prefetch(look, sources, lambda one: _weight(one[1])):
                lights.append(light)
                yield source, image

        seen = pairs()
        batches = batched(seen, size, lambda pair: _weight(pair[1]))
        together = detector.is_transductive
        judged = chain.from_iterable(map(self.judge, batches))
        for one in self.judge_together(seen, detector) if together else judged:
            yield replace(one, look=lights.popleft())

    def judge(self, batch: Sequence[tuple[Any, Any]]) -> Iterator[Inspection]:
        """Judge (source, `Seen` or error) pairs; readable images are inferred together.

        If the batch fails they are inferred one by one, so that only the image at fault is an
        ERROR.
        """
        pixels = [seen.image for _, seen in batch if not isinstance(seen, Exception)]
        readings: Any = attempt(self.infer, pixels) if pixels else []
        if isinstance(readings, Exception) or len(readings) != len(pixels):
            readings = [attempt(self._one, image) for image in pixels]
        following = iter(readings)
        for source, seen in batch:
            reading = seen if isinstance(seen, Exception) else next(following)
            origin = _origin(source)
            yield _record(origin, attempt(self._verdict, origin, reading, seen))

    def judge_together(
        self, pairs: Iterable[tuple[Any, Any]], detector: Batchwise
    ) -> Iterator[Inspection]:
        """Judge (source, `Seen` or error) pairs by each other, when all of them were seen.

        What cannot be read is no part of the batch. Images are let go at once; what the detector
        keeps of each stays until the end. Where nothing can be compared, each says why.
        """

        def look(seen: Any) -> Any:
            return seen if isinstance(seen, Exception) else attempt(detector._look, seen.image)

        kept = [(_origin(source), look(seen), _way_back(seen)) for source, seen in pairs]
        looks = [one for _, one, _ in kept if not isinstance(one, Exception)]
        readings: Any = attempt(detector._read_together, looks)
        places = iter(range(len(looks)))
        for origin, one, seen in kept:
            found = one if isinstance(one, Exception) else readings
            if not isinstance(found, Exception):
                found = attempt(readings.__getitem__, next(places))
            yield _record(origin, attempt(self._verdict, origin, found, seen))

    def _one(self, image: NDArray[np.uint8]) -> Reading:
        return self.infer([image])[0]

    def _verdict(self, origin: Sample | str, reading: Reading | Exception, seen: Any) -> Inspection:
        if isinstance(reading, Exception):
            raise reading
        drawn = None if reading.map is None else seen.back.restore(self.finish(reading.map))
        inside = _judged(seen)
        if not math.isfinite(reading.score) or not (drawn is None or np.isfinite(drawn).all()):
            raise ImageError("the score or the map is not finite")
        if self.threshold is None:
            return Inspection(source=origin, score=reading.score, map=drawn, seen=inside)
        limit = self.pixel_threshold
        label = int(reading.score > self.threshold)
        return Inspection(
            source=origin,
            score=reading.score,
            label=label,
            verdict=Verdict.NG if label else Verdict.OK,
            map=drawn,
            seen=inside,
            regions=() if drawn is None or limit is None else find_regions(drawn, limit),
            threshold=self.threshold,
            pixel_threshold=limit,
        )


def require_company(looks: Sequence[Any]) -> None:
    """Raise `InputError` unless there are at least two images to compare."""
    if len(looks) < 2:
        raise InputError(
            "images are judged by the others of their batch, and there is no other that can be "
            "read: give two at least"
        )


def require_judged(judged: Inspections) -> Inspections:
    """Return judgements, or raise `UnjudgedError` if an image could not be judged."""
    failed = judged.errors
    if failed:
        reasons = "; ".join(f"{one.path}: {one.error}" for one in failed[:3])
        raise UnjudgedError(
            f"{len(failed)} of {len(judged)} images could not be judged: {reasons}", judged
        )
    return judged


def _way_back(seen: Any) -> Any:
    """Return what was seen without its pixels, of which the size is left."""
    return seen if isinstance(seen, Exception) else seen._replace(image=seen.image[..., :0].copy())


def _judged(seen: Any) -> NDArray[np.bool_] | None:
    """Return which pixels of an image were judged; None if all were."""
    everything = np.broadcast_to(np.float32(1), seen.image.shape[:2])  # without memory of its own
    restored = seen.back.restore(everything)
    inside = None if restored is everything else restored > 0.5
    return None if inside is None or inside.all() else inside


def _origin(source: Any) -> Sample | str:
    return source if isinstance(source, Sample) else images.describe(source)


def _record(origin: Sample | str, found: Inspection | Exception) -> Inspection:
    if isinstance(found, Inspection):
        return found
    text = str(found)
    if not isinstance(found, PyimganoError):
        text = f"{type(found).__name__}: {text}"
    return Inspection(source=origin, verdict=Verdict.ERROR, error=text)
