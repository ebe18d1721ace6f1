"""Client of a MobileNetV2 inference service: classes, embeddings and class maps of one image or of very many."""

from mobilenet_client.aio import AsyncClient as AsyncClient
from mobilenet_client.errors import BadImage as BadImage
from mobilenet_client.errors import BadParameter as BadParameter
from mobilenet_client.errors import ClientError as ClientError
from mobilenet_client.errors import EmbeddingMismatch as EmbeddingMismatch
from mobilenet_client.errors import ServiceError as ServiceError
from mobilenet_client.errors import ServiceUnavailable as ServiceUnavailable
from mobilenet_client.errors import Timeout as Timeout
from mobilenet_client.errors import Unauthorized as Unauthorized
from mobilenet_client.results import Classification as Classification
from mobilenet_client.results import ClassMap as ClassMap
from mobilenet_client.results import Embedding as Embedding
from mobilenet_client.results import Embeddings as Embeddings
from mobilenet_client.results import Explanation as Explanation
from mobilenet_client.results import Prediction as Prediction
from mobilenet_client.sync import Client as Client

__version__ = "0.1.0"
