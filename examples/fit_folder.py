"""Learn from a folder of good parts, judge new ones, keep the model."""

import tempfile
from pathlib import Path

import pyimgano
from pyimgano.synthesis import write_demo

with tempfile.TemporaryDirectory() as temporary:
    home = Path(temporary)
    flange = (
        write_demo(home / "parts", n_train=30, n_good=2, n_defect=3, size=(128, 128)) / "flange"
    )

    # A folder, or any sequence of paths, arrays, PIL images or samples, in capture order.
    detector = pyimgano.fit(flange / "train" / "good", extractor="handcrafted", size=128)
    print(detector.certainty_.describe())

    # Streams in constant memory; what cannot be judged is an ERROR with a reason, never an OK.
    for one in detector.inspect(flange / "test"):
        print(Path(one.path).relative_to(flange), one.verdict, one.reason)

    detector.save(home / "model.pyimg")
    again = pyimgano.load(home / "model.pyimg")
    print("threshold as it was saved:", again.threshold_ == detector.threshold_)
