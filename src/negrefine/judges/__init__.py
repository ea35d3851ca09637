"""What answers NegFilter's two questions: WordNet, language models, recorded answers."""
