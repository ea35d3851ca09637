"""An evaluation as an HTML page, and an explanation as a picture."""
