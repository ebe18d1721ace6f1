"""What fuzzing found stays fixed; ten minutes of it find nothing more."""

from __future__ import annotations

import pytest

from service.image import Header, Limits
from tests.hostile.conftest import RecordFigure
from tests.hostile.fuzz import target
from tests.hostile.fuzz.__main__ import fuzz
from tests.hostile.fuzz.regressions import REGRESSIONS
from tests.image.samples import seeds

SECONDS = 600


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_was_found_stays_fixed(name: str) -> None:
    target.run(REGRESSIONS[name], Limits())


def test_the_target_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    data = seeds()["jpeg"]
    target.run(data)
    with monkeypatch.context() as patch:
        patch.setattr(target, "MAX_SECONDS", 0.0)
        with pytest.raises(target.Finding, match="slow"):
            target.run(data)
    with monkeypatch.context() as patch:
        patch.setattr(target, "inspect", lambda *_: Header("jpeg", 47, 48, components=3))
        with pytest.raises(target.Finding, match="by Pillow"):
            target.run(data)
    with monkeypatch.context() as patch:
        patch.setattr(target, "preprocess", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            target.run(data)


@pytest.mark.torture
def test_ten_minutes_of_fuzzing_find_nothing(record_figure: RecordFigure) -> None:
    executions, findings = fuzz(SECONDS)
    record_figure("fuzz executions", f"{executions} in {SECONDS} s")
    record_figure("fuzz crashes", str(len(findings)))
    assert findings == []
    assert executions > 10_000
