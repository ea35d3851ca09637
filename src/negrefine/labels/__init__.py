"""Names and words: class names, prompts, lexicon, mining and NegFilter."""
