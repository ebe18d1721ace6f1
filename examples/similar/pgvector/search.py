"""Photos in the database that are similar to a photo: python search.py photo.jpg

The photo's vector comes from a running service (SERVICE_URL), which refuses if its vectors are not those of the
database (DATABASE_URL).
"""

import os
import sys
from pathlib import Path

import httpx
import numpy as np
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector

NEIGHBOURS = 10
#: Candidates that the index looks at; more find more of the true neighbours and take longer.
EF_SEARCH = 100
#: The order is the index's, in half precision; the similarities are exact.
QUERY = """
    SELECT path, -(embedding <#> %(query)s) FROM photo
    ORDER BY embedding::halfvec(1280) <#> %(query)s::halfvec(1280) LIMIT %(count)s
"""


def vector_of(photo: Path, embedding_id: str) -> Vector:
    headers = {"Accept": "application/octet-stream", "Embedding-Id": embedding_id}
    service = os.environ.get("SERVICE_URL", "http://127.0.0.1:8000")
    answer = httpx.post(f"{service}/embed", content=photo.read_bytes(), headers=headers, timeout=30)
    if answer.status_code != 200:
        sys.exit(f"error: {answer.json()['detail']}")
    return Vector(np.frombuffer(answer.content, "<f4"))


def neighbours(connection: psycopg.Connection, query: Vector, count: int = NEIGHBOURS) -> list[tuple[str, float]]:
    """Paths and cosine similarities, the most similar first."""
    with connection.transaction():
        connection.execute(f"SET LOCAL hnsw.ef_search = {max(EF_SEARCH, count)}")
        return connection.execute(QUERY, {"query": query, "count": count}).fetchall()


def main(photo: Path) -> None:
    with psycopg.connect(os.environ.get("DATABASE_URL", ""), autocommit=True) as connection:
        register_vector(connection)
        space = connection.execute("SELECT embedding_id FROM embedding_space").fetchone()
        if space is None:
            sys.exit("error: the database is empty; fill it with load.py")
        for path, similarity in neighbours(connection, vector_of(photo, space[0])):
            print(f"{similarity:.3f}  {path}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PHOTO")
    main(Path(sys.argv[1]))
