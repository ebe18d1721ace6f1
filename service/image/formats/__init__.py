"""One module per image format whose header takes more than a few lines; WebP and BMP are read in ``inspection``.

Each has ``inspect_…`` (bytes to ``Header``, for ``inspection``) and, where the decoder must not see the whole file, the
function that reduces the file to what its first image needs (for ``decode``).
"""
