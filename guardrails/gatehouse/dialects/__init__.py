"""The reader and writer of bodies, by the API that they speak."""
