"""Names and words: class names, prompts, lexicon, mining, and the negative labels it finds."""
