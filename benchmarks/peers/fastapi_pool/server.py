"""FastAPI with a thread a core for decoding and inference, no batching: the least that uses every core."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from benchmarks.peers.classifier import CORES, PORT, load, prepare

app = FastAPI()
classify = load(threads=1, callers=CORES)
pool = ThreadPoolExecutor(CORES)


def work(jpeg: bytes) -> list[dict[str, Any]]:
    return classify([prepare(jpeg)])[0]


@app.post("/classify")
async def predict(request: Request) -> list[dict[str, Any]]:
    return await asyncio.get_running_loop().run_in_executor(pool, work, await request.body())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
