"""The bundled demo: animals as classes, everything else as out-of-distribution images."""
