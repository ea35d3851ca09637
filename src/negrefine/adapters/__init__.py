"""Bridges to other libraries: scikit-learn, pytorch-ood, datasets, torch, pandas and polars.

Each module needs the library it is named after or speaks of, and no other.
"""
