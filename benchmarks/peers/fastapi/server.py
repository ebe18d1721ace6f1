"""FastAPI, as one writes it: an uploaded file, a blocking function, no batching."""

from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, File

from benchmarks.peers.classifier import CORES, PORT, load, prepare

app = FastAPI()
classify = load(threads=CORES)


@app.post("/classify")
def predict(file: Annotated[bytes, File()]) -> list[dict[str, Any]]:
    return classify([prepare(file)])[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
