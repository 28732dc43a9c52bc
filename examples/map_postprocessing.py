"""Steps between the raw map and the regions: smoothing, a scale of its own, no specks."""

import numpy as np

import pyimgano
from pyimgano.maps import (
    GaussianSmoothing,
    Pipeline,
    RobustNormalisation,
    SmallComponentRemoval,
    find_regions,
)
from pyimgano.synthesis import plant, render_part

made = [render_part(np.random.default_rng(i), (128, 128)) for i in range(25)]
good, last = [part.image for part in made[:24]], made[24]
marred, truth = plant(last.image, last.mask, "fibre", np.random.default_rng(0), severity=2)

# Statistics of a step are learned from out-of-sample maps of good images, never from one map.
steps = Pipeline((GaussianSmoothing(sigma=2.0), RobustNormalisation(), SmallComponentRemoval()))
detector = pyimgano.fit(good, extractor="handcrafted", size=128, postprocess=steps)
for step in detector.postprocess_.steps:
    print("learned:", step)

one = next(detector.inspect([marred]))
print(one.verdict, one.reason)
print(f"map {one.map.shape} in robust deviations of the good maps, peak {one.map.max():.1f}")
above = one.map > one.pixel_threshold
print(f"share of the defect above the pixel threshold: {above[truth].mean():.2f}")

# The regions of a record are those above the pixel threshold; other limits are a function away.
# Steps and limits never change the score or the verdict.
for limit in (one.pixel_threshold, 2 * one.pixel_threshold):
    found = find_regions(one.map, limit, min_area=20)
    print(f"above {limit:.1f}:", [(region.bbox, round(region.area)) for region in found])
