"""Client of a MobileNetV2 inference service: classes, embeddings and class maps of one image or of very many."""

from mobilenet_client.aio import AsyncClient
from mobilenet_client.errors import (
    BadImage,
    BadParameter,
    ClientError,
    EmbeddingMismatch,
    ServiceError,
    ServiceUnavailable,
    Timeout,
    Unauthorized,
)
from mobilenet_client.results import Classification, ClassMap, Embedding, Embeddings, Explanation, Prediction
from mobilenet_client.sync import Client

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadImage",
    "BadParameter",
    "ClassMap",
    "Classification",
    "Client",
    "ClientError",
    "Embedding",
    "EmbeddingMismatch",
    "Embeddings",
    "Explanation",
    "Prediction",
    "ServiceError",
    "ServiceUnavailable",
    "Timeout",
    "Unauthorized",
]
