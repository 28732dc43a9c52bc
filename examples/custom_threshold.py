"""What different rules make of the same good images, and a threshold from another session."""

import numpy as np

import pyimgano
from pyimgano.calibration import Conformal, Fixed, Quantile, Tail, calibrate
from pyimgano.errors import CalibrationError
from pyimgano.synthesis import render_part


def parts(session, count):
    """Generate good parts; another session is another source of random numbers."""
    return [
        render_part(np.random.default_rng((session, i)), (128, 128)).image for i in range(count)
    ]


good = parts(session=1, count=60)
detector = pyimgano.fit(good, extractor="handcrafted", size=128, contamination=0.05)
scores = detector.decision_scores_  # of each good image, by a model that has not seen its block
print(f"{len(scores)} out-of-sample scores, {scores.min():.2f} to {scores.max():.2f}")

for rule in (Conformal(), Quantile(), Tail(start=0.7), Fixed(float(scores.max()) * 1.1)):
    found = calibrate(scores, rule=rule, contamination=0.05, method="5 block folds")
    bound = found.certainty.bound
    promise = "nothing is certain" if bound is None else f"at most {bound:.1%} rejected"
    print(f"{rule}: {found.threshold:.3f}, {promise}")

# A rule is a parameter of the detector.
strict = pyimgano.fit(good, extractor="handcrafted", size=128, threshold=Quantile())
print("labels:", strict.predict(parts(session=3, count=4)))

# A threshold from images of another session: closer to what comes tomorrow.
detector.calibrate(parts(session=2, count=30))
print(detector.certainty_.describe())

try:
    detector.calibrate(good)
except CalibrationError as error:
    print("refused:", error)
