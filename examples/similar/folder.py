"""Photos most similar to one of them: python folder.py vectors.npy photos/cat.jpg

``mobilenet-service embed photos/ --out vectors.npy`` makes vectors.npy and vectors.json. A photo that is not among them
is sent to a running service (SERVICE_URL), which refuses if its vectors are not of the same model.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

NEIGHBOURS = 10


def vector_of(photo: Path, embedding_id: str) -> np.ndarray:
    """The vector of a photo, from the service."""
    url = os.environ.get("SERVICE_URL", "http://127.0.0.1:8000") + "/embed"
    headers = {"Accept": "application/octet-stream", "Embedding-Id": embedding_id}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, photo.read_bytes(), headers)) as answer:
            return np.frombuffer(answer.read(), "<f4")
    except urllib.error.HTTPError as error:
        sys.exit(f"error: {json.load(error)['detail']}")
    except OSError as error:
        sys.exit(f"error: {photo} is not in the matrix, and the service at {url} does not answer: {error}")


def main(matrix: Path, photo: Path) -> None:
    vectors, side = np.load(matrix), json.loads(matrix.with_suffix(".json").read_text())
    paths = side["paths"]
    query = vectors[paths.index(str(photo))] if str(photo) in paths else vector_of(photo, side["embedding_id"])
    scores = vectors @ query  # cosine similarities, because the vectors have unit length
    for row in np.argsort(-scores)[: NEIGHBOURS + 1]:
        if paths[row] != str(photo):
            print(f"{scores[row]:.3f}  {paths[row]}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} VECTORS.npy PHOTO")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
