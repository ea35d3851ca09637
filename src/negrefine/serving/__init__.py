"""Detectors behind HTTP: batching across requests, reloading, limits and metrics."""
