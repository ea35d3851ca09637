"""Adapters to other libraries; each module imports only the library that it adapts to."""
