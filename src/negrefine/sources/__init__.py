"""Anything that images are kept in: files, URLs, archives, tables and lists, as shards."""
