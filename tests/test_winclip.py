"""WinCLIP against slow, obvious code; words, windows, memories, files, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import harmonic_mean

import numpy as np
import pytest

import fakes
import pyimgano
from clip_fake import DIM, ClipFake, ImagesOnly, MaskingFake
from pyimgano.detector_contract import texture
from pyimgano.errors import ArchiveError, MissingExtra, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.features.cache import CachedExtractor, FeatureStore
from pyimgano.features.clip_words import BAD, GOOD, TEMPLATES, embed_words, prompts, read_words
from pyimgano.features.text_image import TextEmbedder, WindowEmbedder, windows_of
from pyimgano.maps.upsample import upsample
from pyimgano.models.knn_index import create_index
from pyimgano.models.winclip import WinCLIP, _evenly, _judged, _Seen, _spread
from pyimgano.optional import is_available
from pyimgano.testing import DETECTOR_CHECKS, Bench, check_extractor

GOODS = [texture(seed) for seed in range(6)]
T = 0.07


def defective(seed=50, *, at=(30, 60)):
    image = texture(seed)
    image[at[0] : at[0] + 18, at[1] : at[1] + 18] = (225, 60, 40)
    return image


# The definition, written out slowly -------------------------------------------------------


def share(vector, words):
    """The softmax of two cosines, divided by the temperature."""
    cosines = [vector @ w / np.linalg.norm(vector) / np.linalg.norm(w) for w in words]
    good, bad = np.exp(np.array(cosines, np.float64) / T)
    return bad / (good + bad)


def spread(values, side):
    """Each cell takes the harmonic mean of the windows that cover it."""
    rows, columns = values.shape
    out = np.zeros((rows + side - 1, columns + side - 1))
    for y, x in np.ndindex(out.shape):
        covering = [
            float(values[v, u])
            for v, u in np.ndindex(rows, columns)
            if v <= y < v + side and u <= x < u + side
        ]
        out[y, x] = harmonic_mean(covering)
    return out


def told(extractor, image, words, scales=(2, 3)):
    """The share of the image, and the map of the shares of its windows."""
    whole = share(extractor.embed_images([image])[0], words)
    maps = []
    for side in scales:
        windows = windows_of(extractor, image, side, 8)
        shares = np.apply_along_axis(share, 2, windows, words)
        maps.append(spread(shares, side))
    cells = [harmonic_mean([whole, *each]) for each in zip(*map(np.ravel, maps), strict=True)]
    return whole, np.reshape(cells, maps[0].shape)


def nearest(vectors, references):
    out = np.zeros(vectors.shape[:2])
    known = [row for one in references for row in one.reshape(-1, DIM).astype(np.float64)]
    for place in np.ndindex(out.shape):
        v = vectors[place].astype(np.float64)
        cosines = [v @ r / np.linalg.norm(v) / np.linalg.norm(r) for r in known]
        out[place] = (1 - max(cosines)) / 2
    return out


def compared(extractor, image, goods, scales=(2, 3)):
    """The mean over the scales of the distances to good images."""

    def patches(one):
        return extractor.embed([one])[0].values

    maps = [nearest(patches(image), [patches(one) for one in goods])]
    for side in scales:
        windows = [windows_of(extractor, one, side, 8) for one in (image, *goods)]
        maps.append(spread(nearest(windows[0], windows[1:]), side))
    return np.mean(maps, axis=0)


@pytest.mark.parametrize("extractor", [ClipFake(), MaskingFake()], ids=["crops", "tokens"])
def test_scores_and_maps_are_those_of_the_definition(extractor):
    goods, image = GOODS[:2], defective()
    words = embed_words(extractor, "object")
    whole, language = told(extractor, image, words)
    alone = WinCLIP(extractor=extractor, shots=0).fit(goods)
    assert alone.decision_function([image])[0] == pytest.approx(whole, rel=1e-5)
    drawn = upsample(language.astype(np.float32), (96, 96))
    assert np.allclose(alone.get_anomaly_map(image), drawn, rtol=1e-4)
    vision = compared(extractor, image, goods)
    both = WinCLIP(extractor=extractor).fit(goods)
    assert both.decision_function([image])[0] == pytest.approx((whole + vision.max()) / 2, rel=1e-4)
    drawn = upsample(((language + vision) / 2).astype(np.float32), (96, 96))
    assert np.allclose(both.get_anomaly_map(image), drawn, rtol=1e-3, atol=1e-5)


def test_windows_hand_their_scores_to_the_cells_they_cover():
    values = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    for side in (1, 2, 3):
        assert np.allclose(_spread(values, side), spread(values, side), rtol=1e-5)
    values[1, 2] = 0  # one window that is certainly good makes its cells good
    found = _spread(values, 2)
    assert np.array_equal(found == 0, spread(values, 2) == 0)
    assert (found == 0).sum() == 4


def test_windows_are_cut_out_of_about_square_cells():
    seen = []

    class Recording(ImagesOnly):
        def embed_images(self, images):
            seen.extend(images)
            return super().embed_images(images)

    image = np.arange(40 * 83 * 3, dtype=np.uint32).reshape(40, 83, 3).astype(np.uint8)
    found = windows_of(Recording(), image, 2, 4)
    assert found.shape == (3, 7, DIM)  # 4 x 8 cells of 10 x 10.4 pixels
    assert np.array_equal(seen[0], image[:20, :20])
    assert np.array_equal(seen[-1], image[20:, 62:])
    assert np.array_equal(seen[8], image[10:30, 10:31])
    assert not isinstance(Recording(), TextEmbedder | WindowEmbedder)
    tokens = windows_of(MaskingFake(), GOODS[0], 3, 4)
    assert tokens.shape == (6, 6, DIM)


def test_every_state_stands_in_every_template():
    good, bad = prompts(" metal_nut ")
    assert (len(GOOD), len(BAD), len(TEMPLATES)) == (7, 4, 22)
    assert len(set(TEMPLATES)) == 22
    assert len(set(good)) == len(good) == 154
    assert len(set(bad)) == len(bad) == 88
    assert "a photo of the flawless metal nut for visual inspection." in good
    assert "a close-up photo of a metal nut without defect." in good
    assert "a jpeg corrupted photo of a metal nut with flaw." in bad


def test_texts_have_length_1_before_their_mean():
    words = embed_words(ClipFake(), "screw")
    assert np.allclose(np.linalg.norm(words, axis=1), 1)
    for found, texts in zip(words, prompts("screw"), strict=True):
        rows = ClipFake().embed_texts(texts)
        mean = sum(row / np.linalg.norm(row) for row in rows)
        assert np.allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


# What is learned --------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [None, 2])
def test_a_good_image_is_scored_without_its_own_block(shots):
    goods = [texture(seed) for seed in range(20)]
    made = WinCLIP(extractor=MaskingFake(), shots=shots, folds=4)
    fitted = made.clone().fit(goods)
    for block in range(4):
        own = range(5 * block, 5 * block + 5)
        others = [goods[i] for i in range(20) if i not in own]
        expected = made.clone().fit(others).decision_function([goods[i] for i in own])
        assert np.array_equal(fitted.decision_scores_[5 * block : 5 * block + 5], expected)
    kept = _evenly(20, shots)
    assert len(fitted.banks_[0]) == 64 * len(kept)
    assert kept == ([0, 19] if shots else list(range(20)))
    assert (_evenly(20, 1), _evenly(3, 9)) == ([0], [0, 1, 2])


def test_words_alone_learn_nothing_and_good_images_set_the_threshold():
    made = WinCLIP(extractor=ClipFake(), shots=0)
    fitted = made.clone().fit(GOODS)
    assert np.array_equal(fitted.decision_scores_, fitted.decision_function(GOODS))
    assert fitted.threshold_ == fitted.decision_scores_.max()
    assert fitted.banks_ == ()
    other = made.clone().fit(GOODS[:2])
    bad = [defective(), defective(60)]
    assert np.array_equal(other.decision_function(bad), fitted.decision_function(bad))
    assert (fitted.predict(bad) == 1).all()
    told_of = made.clone().fit(GOODS[:1], calibration=GOODS[1:])
    assert told_of.is_calibrated


def test_no_temperature_overflows():
    cold = WinCLIP(extractor=ClipFake(), shots=0, temperature=1e-5).fit(GOODS)
    assert set(cold.decision_function([GOODS[0], defective(at=(0, 0))])) <= {0.0, 1.0}


def test_patches_lie_where_their_extractor_says():
    """Patches of 12 pixels on 100 x 130 leave 4 rows and 10 columns out."""
    vectors = np.zeros((8, 10, 2), np.float32)
    vectors[..., 0] = 1
    vectors[7, 9] = 0, 1
    seen = _Seen((100, 130), 0.25, np.zeros((8, 10), np.float32), (vectors,), (0, 0, 96, 120))
    memory = (create_index().fit(np.eye(1, 2)),)
    found = _judged(seen, memory)
    assert found.score == pytest.approx((0.25 + found.distances.max() * 2) / 2)
    near = np.zeros((8, 10), np.float32)
    near[7, 9] = 0.5
    expected = upsample(near, (8, 10), extent=(0, 0, 96 * 8 / 100, 120 * 10 / 130)) / 2
    assert np.allclose(found.distances, expected)
    assert found.extent == (0, 0, 100, 130)


# Words from a file, models in files -------------------------------------------------------


def test_words_come_from_a_file_where_the_extractor_has_none(tmp_path):
    words = embed_words(ClipFake(), "screw")
    np.save(tmp_path / "screw.npy", 3 * words)
    np.savez(tmp_path / "screw.npz", normal=words[0], anomalous=words[1])
    expected = WinCLIP(extractor=ClipFake(), part="screw").fit(GOODS).decision_scores_
    for name in ("screw.npy", "screw.npz"):
        made = WinCLIP(extractor=ImagesOnly(), words=str(tmp_path / name))
        assert np.allclose(made.fit(GOODS).decision_scores_, expected, rtol=1e-5)
    assert np.allclose(read_words(tmp_path / "screw.npz"), words)


def test_a_loaded_model_needs_images_only(tmp_path):
    fitted = WinCLIP(extractor=ClipFake()).fit(GOODS)
    fitted.save(tmp_path / "model.pyimg")
    loaded = pyimgano.load(tmp_path / "model.pyimg", extractor=ImagesOnly())
    bad = [defective()]
    assert np.array_equal(loaded.decision_function(bad), fitted.decision_function(bad))
    with pytest.raises(ArchiveError, match="fingerprint"):
        pyimgano.load(tmp_path / "model.pyimg", extractor=ImagesOnly(name="another"))
    WinCLIP(extractor=ClipFake(), shots=0).fit(GOODS).save(tmp_path / "words.pyimg")
    loaded = pyimgano.load(tmp_path / "words.pyimg", extractor=ImagesOnly())
    assert loaded.banks_ == ()
    assert np.isfinite(loaded.decision_function(bad)).all()


def test_features_of_a_benchmark_are_computed_anew(tmp_path):
    cached = CachedExtractor(ClipFake(), FeatureStore(tmp_path / "features", 1 << 20))
    fitted = WinCLIP(extractor=cached).fit(GOODS)
    expected = WinCLIP(extractor=ClipFake()).fit(GOODS)
    assert np.array_equal(fitted.decision_scores_, expected.decision_scores_)


def test_what_cannot_be_used_is_told_before_any_image_is_read(tmp_path):
    def refused(error, match, **given):
        with pytest.raises(error, match=match):
            WinCLIP(**{"extractor": ClipFake(), **given}).fit("nowhere")

    refused(ParameterError, "scales", scales=())
    refused(ParameterError, "scales", scales=(2, 2))
    refused(ParameterError, "scales", scales=(0, 2))
    refused(ParameterError, "cells", cells=2)
    refused(ParameterError, "temperature", temperature=0.0)
    refused(ParameterError, "shots", shots=-1)
    refused(ParameterError, "part", part=" ")
    refused(ParameterError, "embeds no texts", extractor=ImagesOnly())
    refused(ParameterError, "an object with embed_images", extractor="handcrafted")
    refused(ParameterError, "an object with embed_images", extractor=fakes.TinyExtractor())
    refused(ArchiveError, "cannot be read", words=str(tmp_path / "none.npy"))
    words = tmp_path / "words.npy"
    for values in (np.ones((3, 4)), np.ones(2), np.zeros((2, 4)), np.full((2, 4), np.nan)):
        np.save(words, values)
        refused(ArchiveError, "two texts", words=str(words))
    np.save(words, np.array([None, {}]), allow_pickle=True)
    refused(ArchiveError, "cannot be read", words=str(words))
    np.savez(tmp_path / "words.npz", good=np.ones(4))
    refused(ArchiveError, "normal", words=str(tmp_path / "words.npz"))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "words.npz").read_bytes()[:40])
    refused(ArchiveError, "cannot be read", words=str(tmp_path / "cut.npz"))
    np.save(words, np.eye(2, DIM + 1))
    with pytest.raises(ParameterError, match="both must come from one model"):
        WinCLIP(extractor=ClipFake(), words=str(words)).fit(GOODS)


@pytest.mark.skipif(is_available("open_clip"), reason="open_clip is installed")
def test_without_open_clip_the_pip_line_is_told():
    with pytest.raises(MissingExtra, match=r"pyimgano\[clip\]"):
        WinCLIP().fit(GOODS)


# The contract -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    points = {"pyimgano.extractors": {"clip_fake": "clip_fake:ClipFake"}}
    fakes.distribution(folder, "pyimgano-clip-fake", points)
    path = os.pathsep.join([str(folder), str(Path(__file__).parent)])
    with (
        pytest.MonkeyPatch.context() as patch,
        fakes.entered(EXTRACTORS, "clip_fake", ClipFake),
    ):
        patch.setenv("PYTHONPATH", path)
        yield Bench(lambda: pyimgano.create_detector("vision_winclip", extractor="clip_fake"))


@pytest.mark.parametrize("check", DETECTOR_CHECKS)
def test_the_contract_is_kept(bench, check):
    DETECTOR_CHECKS[check](bench)


def test_the_registry_says_what_is_needed():
    facts = DETECTORS.entry("vision_winclip").metadata
    assert (facts.missing, facts.uses) == ((), ("open_clip",))
    assert facts.pip_line == 'pip install "pyimgano[clip]"'
    assert "clip_onnx" in dict(facts.details)["extractor"]
    assert EXTRACTORS.entry("open_clip").metadata.pip_line == 'pip install "pyimgano[clip]"'
    check_extractor(ClipFake())
