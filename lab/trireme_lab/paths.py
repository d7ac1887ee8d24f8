"""Where things are in the checkout."""

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
LAB = TOP / "lab"
GO_MODULE = LAB / "go"
ENFORCER = LAB / "enforcer"
NODE = LAB / "node"
MANIFESTS = LAB / "manifests"
IMAGES = TOP / "images"
CHARTS = TOP / "charts"
SAMPLES = TOP / "manifests" / "samples"
KIND_CONFIG = TOP / "kind-config.yaml"
UV = LAB / "uv.sh"
