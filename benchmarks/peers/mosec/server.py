"""mosec: a stage that decodes, in a process a core, and a stage that infers with dynamic batching."""

from typing import Any

from mosec import Server, Worker

from benchmarks.peers.classifier import BATCH, CORES, WAIT, WORKERS, load, prepare


class Preprocess(Worker):
    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> Any:
        return prepare(data)


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.classify = load(threads=CORES // WORKERS)

    def forward(self, data: list[Any]) -> list[Any]:
        return self.classify(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Preprocess, num=CORES)
    server.append_worker(Inference, num=WORKERS, max_batch_size=BATCH, max_wait_time=round(WAIT * 1e3))
    server.run()
