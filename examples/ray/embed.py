"""Vectors of many photos on a Ray cluster: python embed.py s3://bucket/photos/ s3://bucket/vectors/"""

import sys

import ray
from ray.data.checkpoint import CheckpointConfig

from service.bulk.embedder import Embedder

photos, vectors = sys.argv[1:]
# Run again after a failure, it goes on with the photos that have no vectors yet.
ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig("path", f"{vectors.rstrip('/')}.checkpoint")
(
    ray.data.read_binary_files(photos, include_paths=True)
    .map_batches(Embedder, batch_size=64, num_cpus=0.5, concurrency=2)  # one actor per core of the cluster
    .write_parquet(vectors, min_rows_per_file=1_000)
)
