"""Adapters to other libraries: scikit-learn, pytorch-ood, datasets, torch, pandas and polars.

Each module imports only the library that it adapts to.
"""
