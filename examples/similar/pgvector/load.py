"""Loads Parquet files of vectors into PostgreSQL: python load.py vectors/

``mobilenet-service embed photos/ --out vectors/ --format parquet`` makes them. Photos that are there already are
replaced. DATABASE_URL says where the database is.
"""

import os
import sys
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
from pgvector import Vector
from pgvector.psycopg import register_vector

#: Inner product: the vectors have unit length, so it is the cosine. pgvector's operator <#> is its negative. Of half
#: precision, because a search reads many vectors of the index and few of the table.
INDEX = """
    CREATE INDEX IF NOT EXISTS photo_embedding ON photo USING hnsw ((embedding::halfvec(1280)) halfvec_ip_ops)
"""
SCHEMA = Path(__file__).with_name("schema.sql")
UPSERT = """
    INSERT INTO photo SELECT * FROM loading
    ON CONFLICT (path) DO UPDATE SET embedding_id = excluded.embedding_id, embedding = excluded.embedding
"""


def load(connection: psycopg.Connection, file: Path) -> int:
    """Loads one file, or nothing of it; returns the number of vectors."""
    embedding_id = pq.read_schema(file).metadata[b"embedding_id"].decode()
    rows = 0
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO embedding_space (embedding_id) VALUES (%s) ON CONFLICT DO NOTHING", [embedding_id])
        cursor.execute("CREATE TEMP TABLE loading (LIKE photo) ON COMMIT DROP")
        with cursor.copy("COPY loading (path, embedding_id, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["text", "text", "vector"])
            for batch in pq.ParquetFile(file).iter_batches(1000, columns=["path", "embedding"]):
                for path, embedding in zip(batch["path"].to_pylist(), batch["embedding"], strict=True):
                    if embedding.is_valid:  # a photo that could not be read has none
                        copy.write_row((path, embedding_id, Vector(embedding.values.to_numpy())))
                        rows += 1
        cursor.execute(UPSERT)
    return rows


def main(folder: Path) -> None:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        sys.exit(f"error: there are no Parquet files in {folder}")
    with psycopg.connect(os.environ.get("DATABASE_URL", ""), autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        register_vector(connection)
        try:
            rows = sum(load(connection, file) for file in files)
        except psycopg.errors.ForeignKeyViolation:
            sys.exit(f"error: this database holds vectors of another model than {folder}; use another database")
        connection.execute("SET maintenance_work_mem = '1GB'")  # an index that does not fit is built far more slowly
        connection.execute(INDEX)
    print(f"{rows} vectors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
