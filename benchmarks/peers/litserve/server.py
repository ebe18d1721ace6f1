"""LitServe: decode_request, batch, predict, unbatch, encode_response; dynamic batching."""

from typing import Any

import litserve as ls

from benchmarks.peers.classifier import BATCH, CORES, PORT, WAIT, WORKERS, load, prepare


class ImageClassifier(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.classify = load(threads=CORES // WORKERS)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would be FastAPI's business
        return prepare(request["file"].file.read())

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, images: list[Any]) -> list[Any]:
        return self.classify(images)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    api = ImageClassifier(max_batch_size=BATCH, batch_timeout=WAIT)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
