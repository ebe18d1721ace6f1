"""Work over many photos: folders, archives and tables in, shards of vectors or classes out, and what Ray calls."""
