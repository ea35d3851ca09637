"""Experiments on top of detectors: ablation, result tables, scoring of many files."""
