"""Pictures whose tokens tests can plan; and what detectors on tokens do, written slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from pyimgano.features.base import PatchFeatures


@dataclass(frozen=True, kw_only=True)
class Colours:
    """The mean colour of cells of 8 pixels, whose numbers tests can plan."""

    name: str = "colours"

    @property
    def fingerprint(self):
        return self.name

    def embed(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        h, w = image.shape[0] // 8, image.shape[1] // 8
        cells = image[: 8 * h, : 8 * w].reshape(h, 8, w, 8, 3).astype(np.float32)
        return PatchFeatures(cells.mean(axis=(1, 3)), (0.0, 0.0, 8.0 * h, 8.0 * w))


def picture(seed, height=96, width=96):
    """Smooth colours of their own, so that no two patches are alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (6, 6, 3)).astype(np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    return np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def part(seed, *, spot=None):
    """Draw a bright disc on a dark ground, with a blue spot at (row, column) of 8 pixels a side."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 96, 3), 40.0)
    y, x = np.mgrid[:96, :96]
    image[(y - 48) ** 2 + (x - 48) ** 2 < 28**2] = (200, 170, 120)
    image += rng.normal(0, 2, image.shape)
    if spot is not None:
        image[8 * spot[0] : 8 * spot[0] + 8, 8 * spot[1] : 8 * spot[1] + 8] = (20, 40, 250)
    return np.clip(image, 0, 255).astype(np.uint8)


# The definition, written out slowly -------------------------------------------------------


def slow_distances(tokens, bank, k):
    """Mean of the k smallest 1 - cos to rows of the bank, patch by patch."""
    out = np.zeros(tokens.shape[:2])
    for y, x in np.ndindex(out.shape):
        token = tokens[y, x].astype(np.float64)
        found = []
        for row in bank.astype(np.float64):
            cosine = token @ row / math.sqrt((token @ token) * (row @ row))
            found.append(1 - cosine)
        out[y, x] = np.mean(sorted(found)[:k])
    return out


def slow_top_mean(values, share):
    """Mean of the largest share, at least one."""
    ordered = sorted(values.ravel(), reverse=True)
    count = max(1, int(share * len(ordered)))
    return sum(ordered[:count]) / count


def slow_map(grid, covered, size, sigma):
    """Bilinear between the centres of cells that tile ``covered`` pixels; then the Gaussian."""
    out = np.zeros(size)
    for y, x in np.ndindex(size):
        v = min(max((y + 0.5) * grid.shape[0] / covered[0] - 0.5, 0), grid.shape[0] - 1)
        u = min(max((x + 0.5) * grid.shape[1] / covered[1] - 0.5, 0), grid.shape[1] - 1)
        i, j = min(int(v), grid.shape[0] - 2), min(int(u), grid.shape[1] - 2)
        above = grid[i, j] * (1 - (u - j)) + grid[i, j + 1] * (u - j)
        below = grid[i + 1, j] * (1 - (u - j)) + grid[i + 1, j + 1] * (u - j)
        out[y, x] = above * (1 - (v - i)) + below * (v - i)
    return gaussian_filter(out, sigma, mode="reflect", truncate=4)


def slow_grow(mask):
    """Set every cell that touches one that is set."""
    out = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        out[y, x] = mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
    return out


def slow_foreground(tokens, limit):
    """Return the mask of the sign that shows more of the middle than of the rim."""
    h, w, d = tokens.shape
    rows = tokens.reshape(-1, d).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    axis = np.linalg.svd(rows, full_matrices=False)[2][0]
    component = (rows @ axis).reshape(h, w)
    limit = component.std() / 2 if limit is None else limit
    best, most = None, -np.inf
    for sign in (1, -1):
        mask = sign * component > limit
        middle = mask[int(0.2 * h) : int(0.8 * h), int(0.2 * w) : int(0.8 * w)].mean()
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()
        if middle - rim > most:
            best, most = mask, middle - rim
    grown = slow_grow(np.pad(best, 3))  # beyond the image lies background
    return ~slow_grow(~slow_grow(grown))[3:-3, 3:-3]


def slow_rotation(image, angle):
    """Bilinear about the centre of the pixels, counter-clockwise, borders mirrored."""
    h, w = image.shape[:2]
    turn = math.radians(angle)
    out = np.zeros(image.shape)

    def mirrored(i, n):
        i = abs(i) % (2 * n - 2)
        return min(i, 2 * n - 2 - i)

    for y, x in np.ndindex(h, w):
        dy, dx = y - (h - 1) / 2, x - (w - 1) / 2
        u = math.cos(turn) * dx - math.sin(turn) * dy + (w - 1) / 2
        v = math.sin(turn) * dx + math.cos(turn) * dy + (h - 1) / 2
        i, j = math.floor(v), math.floor(u)
        for k, m in ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)):
            share = (1 - abs(v - k)) * (1 - abs(u - m))
            out[y, x] += share * image[mirrored(k, h), mirrored(m, w)]
    return out


def slow_bicubic(image, size):
    """Keys' cubic (a = -0.5), widened by the factor of reduction: the antialiased resize."""

    def weights(n, m):
        scale = max(n / m, 1.0)
        table = np.zeros((m, n))
        for i in range(m):
            centre = (i + 0.5) * n / m
            for j in range(n):
                t = abs((j + 0.5 - centre) / scale)
                if t < 1:
                    table[i, j] = 1.5 * t**3 - 2.5 * t**2 + 1
                elif t < 2:
                    table[i, j] = -0.5 * (t**3 - 5 * t**2 + 8 * t - 4)
        return table / table.sum(axis=1, keepdims=True)

    rows, columns = weights(image.shape[0], size[0]), weights(image.shape[1], size[1])
    return np.einsum("iy,yxc,jx->ijc", rows, image.astype(np.float64), columns)
