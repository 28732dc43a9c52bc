"""The models of anomalib by our names: the table that decides a name."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MODELS", "Model"]


class Model(NamedTuple):
    """A model of anomalib: its class, its module, and whether it draws maps.

    To train it ``needs`` a download, beside weights of a backbone; unless a parameter says where
    it lies: what it ``takes``.
    """

    kind: str
    module: str
    maps: bool = True
    needs: str = ""
    takes: str = ""


MODELS: dict[str, Model] = {
    "anomalydino": Model("AnomalyDINO", "anomaly_dino"),
    "anomalyvfm": Model("AnomalyVFM", "anomalyvfm", needs="its adapted foundation model"),
    "cfa": Model("Cfa", "cfa"),
    "cflow": Model("Cflow", "cflow"),
    "csflow": Model("Csflow", "csflow"),
    "dfkde": Model("Dfkde", "dfkde", maps=False),
    "dfm": Model("Dfm", "dfm"),
    "dinomaly": Model("Dinomaly", "dinomaly"),
    "draem": Model("Draem", "draem", needs="the images of DTD", takes="dtd_dir"),
    "dsr": Model("Dsr", "dsr", needs="its quantised network"),
    "efficientad": Model(
        "EfficientAd", "efficient_ad", needs="its teacher and the images of ImageNette"
    ),
    "fastflow": Model("Fastflow", "fastflow"),
    "foundad": Model("FoundAD", "foundad"),
    "fre": Model("Fre", "fre"),
    "ganomaly": Model("Ganomaly", "ganomaly", maps=False),
    "generalad": Model("GeneralAD", "general_ad"),
    "glass": Model("Glass", "glass", needs="the images of DTD", takes="anomaly_source_path"),
    "inpformer": Model("InpFormer", "inp_former"),
    "l2bt": Model("L2BT", "l2bt"),
    "mhpatchcore": Model("MHPatchcore", "mh_patchcore"),
    "padim": Model("Padim", "padim"),
    "patchcore": Model("Patchcore", "patchcore"),
    "patchflow": Model("Patchflow", "patchflow"),
    "rad": Model("Rad", "rad"),
    "reverse_distillation": Model("ReverseDistillation", "reverse_distillation"),
    "rkde": Model("Rkde", "rkde", maps=False),  # anomalib 1.x only
    "stfpm": Model("Stfpm", "stfpm"),
    "superadd": Model("SuperADD", "super_add"),
    "supersimplenet": Model("Supersimplenet", "supersimplenet"),
    "uflow": Model("Uflow", "uflow"),
    "uninet": Model("UniNet", "uninet"),
    "vlmad": Model("VlmAd", "vlm_ad", maps=False, needs="a vision-language model"),
    "winclip": Model("WinClip", "winclip", needs="CLIP"),
}
"""All image models of anomalib 2.7 and 1.2 by our short name; ``vision_<name>_anomalib``."""
