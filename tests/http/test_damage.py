"""A damaged photo is answered with a warning or refused, alone and beside good ones."""

from __future__ import annotations

import pytest

from service.model.artifact import Artifact
from tests.image.samples import encode, noise
from tests.running import detail, png, running_app


@pytest.mark.parametrize("decode_threads", [0, 2], ids=["runners decode", "a pool decodes"])
def test_damage_reaches_the_answer(artifact: Artifact, decode_threads: int) -> None:
    photo = encode(noise(300, 260), "JPEG")
    damaged = photo[: len(photo) // 2] + photo[len(photo) // 2 + 700 :]
    with running_app(artifact, decode_threads=decode_threads) as app:
        (result,) = app.client.post("/classify", content=damaged).json()["results"]
        assert [warning for warning in result["warnings"] if warning.startswith("the JPEG is damaged: ")]
        files = [("file", ("a.jpg", damaged)), ("file", ("b.png", png(3)))]
        first, second = app.client.post("/embed", files=files).json()["results"]
        assert (len(first["warnings"]), second["warnings"]) == (1, [])
    with running_app(artifact, decode_threads=decode_threads, damaged="refuse") as app:
        assert "the JPEG is damaged: " in detail(app.client.post("/classify", content=damaged), 422)
        first, second = app.client.post("/embed", files=files).json()["results"]
        assert first["error"]["status"] == 422
        assert "embedding" in second
