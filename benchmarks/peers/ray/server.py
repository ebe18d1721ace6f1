"""Ray Serve: one replica with every core; decoding a request at a time, @serve.batch around the model."""

import tempfile
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.classifier import BATCH, CORES, PORT, WAIT, load, prepare


@serve.deployment(ray_actor_options={"num_cpus": CORES}, max_ongoing_requests=64)
class ImageClassifier:
    def __init__(self) -> None:
        self.model = load(threads=CORES)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def classify(self, images: list[Any]) -> list[Any]:
        return self.model(images)

    async def __call__(self, request: Request) -> Any:
        return await self.classify(prepare(await request.body()))


def stay_local() -> None:
    """In each worker: the replica's gRPC server, which would listen on every interface, listens on 127.0.0.1."""
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda grpc_server, address: add_port(
        grpc_server, address.replace("[::]", "127.0.0.1")
    )


if __name__ == "__main__":
    ray.init(
        include_dashboard=False,
        num_cpus=CORES,
        runtime_env={"worker_process_setup_hook": stay_local},
        _temp_dir=f"{tempfile.gettempdir()}/ray",
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config={"enable_access_log": False})
    serve.run(ImageClassifier.bind(), route_prefix="/", blocking=True)
