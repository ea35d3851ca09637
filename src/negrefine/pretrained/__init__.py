"""Models in the layout of `transformers`: finding, checking and loading them."""
