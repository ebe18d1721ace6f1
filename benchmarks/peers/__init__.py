"""Other servers of image models, each set up as its own documentation does: see README.md."""
