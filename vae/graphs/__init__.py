"""Graphs in ONNX made from a trained model. Imports torch and onnx."""
