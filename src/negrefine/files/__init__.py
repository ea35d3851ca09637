"""Files: reading what anybody may have written, writing so that nothing is lost."""
