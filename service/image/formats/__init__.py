"""One module per image format; ``inspection`` itself reads the simpler headers of WebP and BMP.

Each has ``inspect_…`` (bytes to ``Header``, for ``inspection``) and, if the decoder must not get the whole file, a
function that reduces the file to its first image (for ``decode``).
"""
