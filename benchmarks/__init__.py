"""Speed, as ratios measured in one run on one machine."""

from pipeline import telemetry

telemetry.switch_off()  # before a benchmark imports onnxruntime by itself
