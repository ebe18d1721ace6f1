-- Vectors of photos, all made by one model. Run by load.py; needs pgvector 0.7 or newer.
CREATE EXTENSION IF NOT EXISTS vector;

-- One row: which vectors this database holds.
CREATE TABLE IF NOT EXISTS embedding_space (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    embedding_id text NOT NULL UNIQUE
);

-- The foreign key keeps vectors of any other model out.
CREATE TABLE IF NOT EXISTS photo (
    path text PRIMARY KEY,
    embedding_id text NOT NULL REFERENCES embedding_space (embedding_id),
    embedding vector(1280) NOT NULL
);

-- The index is made by load.py after the first vectors are in, which is faster than one by one.
