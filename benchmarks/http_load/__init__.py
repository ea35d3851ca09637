"""Servers in processes of their own, and clients that load them."""
