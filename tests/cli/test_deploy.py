"""``models promote``, ``rollback`` and ``status`` against services that accept, refuse, die, hang or are not there."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.cli import cli, rollout
from service.errors import OperatorError
from service.host import runtime_directory
from service.model.aliases import ALIASES, Aliases, Canary, Shadow, dump, parse, read
from service.store.aliases import Change, changing, write
from tests.artifacts import make_artifact
from tests.cli.services import FakeService, as_json, running
from tests.disks import Disk, disk
from tests.store.conftest import fail_with
from tests.waiting import until

__all__ = ["disk"]

CANARY, SHADOW = Canary("2", 10), Shadow("3", 0.1)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    for number in ("1", "2", "3"):
        make_artifact(path, name="tiny", version=number, width_mult=0.1, num_classes=3)
    return path


@pytest.fixture
def store(versions: Path, tmp_path: Path) -> Path:
    """Versions 1, 2 and 3 of tiny, no aliases."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "tiny").symlink_to(versions / "tiny")
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _own_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short, because the path of a socket has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mn-") as directory:
        monkeypatch.setattr(runtime_directory, "_RUN", Path(directory, "absent"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments, "--model-store", str(store)])


def accepted(store: Path, *arguments: str) -> list[str]:
    result = run(store, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout.splitlines()


def refused(store: Path, *arguments: str) -> str:
    """Its sentence; no aliases are changed."""
    before = read(store)
    result = run(store, *arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, OperatorError), result.exc_info
    assert read(store) == before
    assert [path.name for path in store.iterdir() if path.name.startswith(".")] == []
    return str(result.exception)


def tiny(stable: str, canary: Canary | None = None, shadow: Shadow | None = None) -> dict[str, Aliases]:
    return {"tiny": Aliases(stable, canary, shadow)}


# What the file says afterwards


@pytest.mark.parametrize(
    ("before", "arguments", "after", "words"),
    [
        (tiny("1"), ("promote", "tiny/2"), tiny("2"), "stable 2"),
        (tiny("1"), ("promote", "tiny/2", "--canary", "10"), tiny("1", CANARY), "stable 1, canary 2 at 10 %"),
        (tiny("1", CANARY), ("promote", "tiny/2", "--canary", "2.5"), tiny("1", Canary("2", 2.5)), "canary 2 at 2.5 %"),
        (tiny("1", CANARY), ("promote", "tiny/2", "--canary", "0"), tiny("1", Canary("2", 0)), "canary 2 at 0 %"),
        (tiny("1"), ("promote", "tiny/3", "--shadow", "0.1"), tiny("1", None, SHADOW), "stable 1, shadow 3 of 0.1"),
        (tiny("1", CANARY), ("promote", "tiny/3", "--shadow", "0.1"), tiny("1", CANARY, SHADOW), "shadow 3 of 0.1"),
        (tiny("1", CANARY, SHADOW), ("promote", "tiny/2"), tiny("2", None, SHADOW), "stable 2, shadow 3 of 0.1"),
        (tiny("1", CANARY, SHADOW), ("promote", "tiny/3"), tiny("3", CANARY), "stable 3, canary 2 at 10 %"),
        (tiny("1", CANARY), ("promote", "tiny/2", "--shadow", "1"), tiny("1", None, Shadow("2", 1)), "shadow 2 of 1"),
        (tiny("1", None, SHADOW), ("promote", "tiny/3", "--canary", "100"), tiny("1", Canary("3", 100)), "3 at 100 %"),
        (tiny("1", CANARY), ("promote", "tiny/1"), tiny("1", CANARY), "canary 2 at 10 % (unchanged)"),
        (tiny("1", CANARY, SHADOW), ("rollback", "tiny"), tiny("1", None, SHADOW), "stable 1, shadow 3 of 0.1"),
        (tiny("1", CANARY, SHADOW), ("rollback", "tiny", "--shadow"), tiny("1", CANARY), "canary 2 at 10 %"),
        (tiny("1", CANARY, SHADOW), ("rollback", "tiny", "--to", "3"), tiny("3"), "stable 3"),
        ({}, ("promote", "tiny/2"), tiny("2"), "stable 2"),
        ({}, ("rollback", "tiny", "--to", "2"), tiny("2"), "stable 2"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
@pytest.mark.parametrize("services", [0, 1], ids=["alone", "served"])
def test_a_change_moves_the_aliases_of_one_model(
    services: int,
    before: dict[str, Aliases],
    arguments: tuple[str, ...],
    after: dict[str, Aliases],
    words: str,
    store: Path,
) -> None:
    others = {"pets": Aliases("7", Canary("8", 50))}
    write(store, before | others)
    service = FakeService(store, 4711, aliases=dict(before))
    with running(*[service] * services):
        lines = accepted(store, *arguments)
    assert read(store) == after | others
    assert lines[-1].startswith("aliases.json: tiny: ")
    assert lines[-1].endswith(words)
    if services:
        assert [aliases for aliases, _ in service.asked] == [as_json(after | others)]
    else:
        assert lines[0] == "No service of this user serves tiny from this store; the next one that starts will."


def test_without_a_file_the_settings_keep_deciding_for_other_models(store: Path) -> None:
    service = FakeService(store, 4711, models=("tiny", "pets"))
    with running(service):
        accepted(store, "promote", "tiny/2", "--canary", "10")
    assert read(store) == tiny("1", CANARY), "stable is what the service has"
    assert service.asked == [(as_json(tiny("1", CANARY)), [])]


def test_promoting_what_is_served_changes_nothing(store: Path) -> None:
    write(store, tiny("1"))
    written = (store / ALIASES).stat()
    with running(FakeService(store, 4711)):
        lines = accepted(store, "promote", "tiny/1")
    assert lines == ["process 4711: nothing to change", "aliases.json: tiny: stable 1 (unchanged)"]
    assert os.path.samestat((store / ALIASES).stat(), written)


def test_the_verdict_is_printed_with_its_figures_and_the_time_it_may_take(store: Path) -> None:
    with running(FakeService(store, 4711)):
        result = run(store, "promote", "tiny/2")
    assert result.stdout.splitlines() == [
        "process 4711: tiny has been switched (agreement 0.984, cosine 0.999, seconds 0.8)",
        "aliases.json: tiny: stable 2",
    ]
    assert result.stderr == "process 4711 is asked and has 120 s\n"


# Refusals


def test_a_refusal_is_waived_by_its_option_only(store: Path) -> None:
    service = FakeService(store, 4711, refusal=("disagreement", "tiny/2 agrees on 12 % of the photos only"))
    with running(service):
        for options in ((), ("--accept-slower",)):
            sentence = refused(store, "promote", "tiny/2", *options)
            assert sentence == "process 4711 refused: tiny/2 agrees on 12 % of the photos only"
        accepted(store, "promote", "tiny/2", "--accept-disagreement")
        assert service.asked[-1][1] == ["disagreement"]
        accepted(store, "promote", "tiny/3", "--accept-disagreement", "--accept-slower")
        assert service.asked[-1][1] == ["disagreement", "slower"]
        accepted(store, "rollback", "tiny", "--to", "1")
        assert service.asked[-1][1] == ["disagreement", "slower"], "a way back is never refused for what it answers"


def test_if_one_of_several_refuses_those_that_changed_go_back(store: Path) -> None:
    write(store, tiny("1", CANARY))
    first, second, third = (FakeService(store, pid, aliases=tiny("1", CANARY)) for pid in (1001, 1002, 1003))
    second.refusal = ("memory", "needs 85 MiB, 40 are left")
    with running(first, second, third):
        result = run(store, "promote", "tiny/3")
    assert str(result.exception) == "process 1002 refused: needs 85 MiB, 40 are left"
    assert result.stdout == "process 1001: tiny has been switched (agreement 0.984, cosine 0.999, seconds 0.8)\n"
    assert "process 1001 is as it was\n" in result.stderr
    assert first.current() == second.current() == third.current() == read(store) == tiny("1", CANARY)
    assert [len(service.asked) for service in (first, second, third)] == [2, 1, 0], "the third is not troubled"


def test_all_of_several_change(store: Path) -> None:
    services = [FakeService(store, pid) for pid in (1001, 1002)]
    with running(*services, FakeService(store / "tiny", 1003)):  # one of another store
        lines = accepted(store, "promote", "tiny/2")
    assert [service.current() for service in services] == [tiny("2")] * 2
    assert [line.partition(":")[0] for line in lines] == ["process 1001", "process 1002", "aliases.json"]


def test_a_service_that_does_not_serve_the_model_is_not_asked(store: Path) -> None:
    service = FakeService(store, 4711, models=("pets",))
    with running(service):
        accepted(store, "promote", "tiny/2")
    assert service.asked == []
    assert read(store) == tiny("2")


def test_a_service_that_dies_in_the_middle_ends_the_change(store: Path) -> None:
    first, second = FakeService(store, 1001), FakeService(store, 1002, dies_of="change")
    with running(first, second):
        sentence = refused(store, "promote", "tiny/2")
    assert sentence == "process 1002 ended before it answered"
    assert first.current() == tiny("1")


def test_the_socket_of_a_dead_service_is_no_service(store: Path) -> None:
    path = runtime_directory.new_socket(store)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert accepted(store, "promote", "tiny/2")[0].startswith("No service of this user serves tiny")
    assert not path.exists()


def test_a_service_that_gives_no_verdict_in_time_goes_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "VERDICT_S", 0.5)
    service = FakeService(store, 4711, hangs=threading.Event())
    with running(service):
        assert refused(store, "promote", "tiny/2") == "process 4711 gave no answer within 0.5 s"
    assert service.cancelled == 1
    assert service.current() == tiny("1")


def test_a_service_that_does_not_even_tell_its_state(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_STATUS_S", 0.05)
    with running(FakeService(store, 4711, silent=True)):
        assert refused(store, "promote", "tiny/2") == "process 4711 gave no answer within 0.05 s"


def test_going_back_waits_until_a_service_has_given_up_what_it_did(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "_BUSY_S", 0.001)
    first, second = FakeService(store, 1001), FakeService(store, 1002)
    handle = second.handle

    async def fail_and_keep_the_first_busy(question: dict[str, Any]) -> dict[str, Any]:
        if question["do"] == "change" and len(second.asked) == 0:
            first.busy, second.refusal = 3, ("corrupt", "tiny/2 is corrupt")
        return await handle(question)

    second.handle = fail_and_keep_the_first_busy  # type: ignore[method-assign]
    with running(first, second):
        result = run(store, "promote", "tiny/2")
    assert "process 1001 is as it was" in result.stderr
    assert (first.busy, first.current()) == (0, tiny("1"))


def test_a_service_that_cannot_go_back_is_named(store: Path) -> None:
    first = FakeService(store, 1001)
    second = FakeService(store, 1002, refusal=("failed", "the device is lost"))
    handle = second.handle

    async def spoil_the_first(question: dict[str, Any]) -> dict[str, Any]:
        first.refusal = ("missing", "tiny/1 is missing") if question["do"] == "change" else None
        return await handle(question)

    second.handle = spoil_the_first  # type: ignore[method-assign]
    with running(first, second):
        result = run(store, "promote", "tiny/2")
    assert "process 1001 did not go back: tiny/1 is missing" in result.stderr
    assert str(result.exception) == "process 1002 refused: the device is lost"


def test_two_promotes_at_once(store: Path) -> None:
    service = FakeService(store, 4711)
    with running(service), changing(store):
        assert refused(store, "promote", "tiny/2").startswith("busy: another promote or rollback in ")
        assert refused(store, "rollback", "tiny", "--to", "2").startswith("busy: ")
    assert service.asked == []


# The file


def test_a_file_that_somebody_else_changed_meanwhile_stays_and_services_go_back(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, tiny("1"))
    service = FakeService(store, 4711)
    by_hand = dump(tiny("3"))
    commit = Change.commit

    def late(change: Change) -> None:
        assert service.current() == tiny("2")
        (store / ALIASES).write_bytes(by_hand)
        commit(change)

    monkeypatch.setattr(Change, "commit", late)
    with running(service):
        result = run(store, "promote", "tiny/2")
    assert str(result.exception) == (
        "aliases.json has been changed by somebody else meanwhile; look at it and try again"
    )
    assert (store / ALIASES).read_bytes() == by_hand
    assert service.current() == tiny("1")


def test_a_store_that_cannot_be_written_is_refused_before_any_service_is_asked(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService(store, 4711)
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with running(service):
        assert refused(store, "promote", "tiny/2") == (
            f"aliases.json: the disk of {store} is full (No space left on device); "
            "free some space and run the command again"
        )
    assert service.asked == []


def test_a_read_only_store(store: Path, versions: Path, disk: Disk) -> None:
    (disk.path / "tiny").symlink_to(versions / "tiny")
    write(disk.path, tiny("1"))
    disk.read_only()
    service = FakeService(disk.path, 4711)
    with running(service):
        assert refused(disk.path, "promote", "tiny/2").startswith(
            f"aliases.json: {disk.path} is not writable (Read-only file system)"
        )
        assert accepted(disk.path, "promote", "tiny/1")[-1] == "aliases.json: tiny: stable 1 (unchanged)"
        assert accepted(disk.path, "status")[-1] == "process 4711: last change: nothing to change"
    assert [aliases for aliases, _ in service.asked] == [as_json(tiny("1"))]


def test_where_nothing_is_to_be_written_a_service_is_asked_and_the_content_printed(
    store: Path, versions: Path, disk: Disk
) -> None:
    (disk.path / "tiny").symlink_to(versions / "tiny")
    disk.read_only()
    service = FakeService(disk.path, 4711)
    with running(service):
        result = run(disk.path, "promote", "tiny/2", "--canary", "10", "--no-write")
    assert result.exit_code == 0
    assert parse(result.stdout.encode()) == service.current() == tiny("1", CANARY)
    assert "process 4711: tiny has been switched (agreement 0.984" in result.stderr
    assert read(disk.path) == {}
    assert refused(disk.path, "promote", "tiny/2", "--no-write") == (
        "no service of this user serves tiny from this store"
    )


def test_a_refusal_is_one_though_nothing_is_written(store: Path) -> None:
    with running(FakeService(store, 4711, refusal=("slower", "three times as slow"))):
        assert refused(store, "promote", "tiny/2", "--no-write") == "process 4711 refused: three times as slow"


def test_a_file_that_cannot_be_put_in_place_makes_services_go_back(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService(store, 4711)
    with running(service):
        monkeypatch.setattr(Path, "replace", fail_with(errno.EBUSY))
        assert "cannot be written: Device or resource busy" in refused(store, "promote", "tiny/2")
    assert len(service.asked) == 2
    assert service.current() == tiny("1")


def test_once_the_file_is_in_place_nobody_goes_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService(store, 4711)
    with running(service):
        monkeypatch.setattr("service.store.write.sync_directory", fail_with(errno.EIO))
        assert "cannot be written" in str(run(store, "promote", "tiny/2").exception)
    assert service.current() == read(store) == tiny("2")


def test_an_invalid_file_is_told_by_all_three(store: Path) -> None:
    (store / ALIASES).write_text('{"tiny": {}}')
    for arguments in (("promote", "tiny/2"), ("rollback", "tiny"), ("status",)):
        assert str(run(store, *arguments).exception) == "aliases.json is invalid at tiny.stable: Field required"
    assert (store / ALIASES).read_text() == '{"tiny": {}}'


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("promote", "tiny/9"), "no model tiny/9 in "),
        (("promote", "other/1"), "no model other/1 in "),
        (("promote", "tiny/2", "--canary", "10"), "nothing says which version of tiny is stable; first run: "),
        (("promote", "tiny/2", "--shadow", "1"), "nothing says which version of tiny is stable; first run: "),
        (("rollback", "tiny"), "nothing says what tiny goes back to; run: mobilenet-service models rollback tiny --to"),
        (("rollback", "tiny", "--to", "9"), "no model tiny/9 in "),
        (("rollback", "tiny", "--shadow"), "tiny has no shadow"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(arguments: tuple[str, ...], sentence: str, store: Path) -> None:
    assert refused(store, *arguments).startswith(sentence)
    assert not (store / ALIASES).exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("promote", "tiny"), "'tiny' is not NAME/VERSION, such as mobilenet_v2/2"),
        (("promote", "tiny/"), "'tiny/' is not NAME/VERSION"),
        (("promote", "tiny/1/2"), "'tiny/1/2' is not NAME/VERSION"),
        (("promote", "../1"), "'../1' is not NAME/VERSION"),
        (("promote", "tiny/2", "--canary", "101"), "101.0 is not in the range 0<=x<=100"),
        (("promote", "tiny/2", "--canary", "-1"), "-1.0 is not in the range 0<=x<=100"),
        (("promote", "tiny/2", "--canary", "nan"), "'nan' is not a number"),
        (("promote", "tiny/2", "--canary", "inf"), "inf is not in the range 0<=x<=100"),
        (("promote", "tiny/2", "--canary", "ten"), "'ten' is not a valid"),
        (("promote", "tiny/2", "--shadow", "0"), "0.0 is not in the range 0<x<=1"),
        (("promote", "tiny/2", "--shadow", "nan"), "'nan' is not a number"),
        (("promote", "tiny/2", "--canary", "10", "--shadow", "0.1"), "--canary and --shadow exclude each other"),
        (("rollback", "tiny", "--to", "1", "--shadow"), "--to and --shadow exclude each other"),
    ],
    ids=lambda value: "-".join(value).replace("/", "_") if isinstance(value, tuple) else None,
)  # fmt: skip
def test_wrong_command_lines(arguments: tuple[str, ...], complaint: str, store: Path) -> None:
    result = run(store, *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert list(store.iterdir()) == [store / "tiny"]


@pytest.mark.parametrize("option", ["--canary", "--shadow"])
def test_the_stable_version_is_no_canary_and_no_shadow(option: str, store: Path) -> None:
    with running(FakeService(store, 4711)):
        sentence = refused(store, "promote", "tiny/1", option, "1")
    assert sentence == "tiny/1 is the stable version, so it cannot be canary or shadow"


def test_a_version_with_damaged_weights_is_not_promoted(store: Path) -> None:
    (store / "tiny").unlink()
    made = make_artifact(store, version="1", width_mult=0.1, num_classes=3)
    weights = made.directory / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "tiny/1: weights.safetensors is corrupt" in refused(store, "promote", "tiny/1")


# Back


def test_rollback_goes_to_what_the_services_served_before(store: Path) -> None:
    write(store, tiny("2", None, SHADOW))
    service = FakeService(store, 4711, aliases=tiny("2", None, SHADOW), previous="1")
    with running(service):
        assert accepted(store, "rollback", "tiny")[-1] == "aliases.json: tiny: stable 1, shadow 3 of 0.1"
    assert read(store) == tiny("1", None, SHADOW)


def test_services_that_disagree_on_what_was_before(store: Path) -> None:
    services = [FakeService(store, 1000 + int(old), aliases=tiny("2"), previous=old) for old in ("1", "3")]
    with running(*services):
        assert refused(store, "rollback", "tiny").startswith("nothing says what tiny goes back to")
        accepted(store, "rollback", "tiny", "--to", "1")
    assert [service.current() for service in services] == [tiny("1")] * 2


def test_a_canary_that_only_the_service_knows_is_ended(store: Path) -> None:
    service = FakeService(store, 4711, aliases=tiny("1", CANARY))
    with running(service):
        accepted(store, "rollback", "tiny")
    assert service.current() == read(store) == tiny("1")


# Status


def test_status_as_a_table(store: Path) -> None:
    write(store, tiny("2", Canary("3", 12.5)) | {"pets": Aliases("1")})
    first = FakeService(store, 1001, aliases=tiny("2", Canary("3", 12.5)), previous="1", held="4 of 200 images failed")
    with running(first, FakeService(store, 1002, models=("tiny", "pets"))):
        lines = accepted(store, "status")
    assert lines == [
        "              model           stable  canary       shadow  loaded  before",
        "aliases.json  tiny            2       3 at 12.5 %",
        "aliases.json  pets            1",
        "process 1001  tiny (default)  2       3 at 12.5 %          2 3     1",
        "process 1002  tiny (default)  1                            1",
        "process 1002  pets            1                            1",
        "process 1001: canary tiny/3 gets 0 %: 4 of 200 images failed",
        "process 1002: tiny is not as aliases.json says; promote again, or send it SIGHUP",
    ]


def test_status_as_json(store: Path) -> None:
    service = FakeService(store, 4711, aliases=tiny("1", CANARY, SHADOW))
    with running(service):
        accepted(store, "promote", "tiny/2")
        report = json.loads("\n".join(accepted(store, "status", "--json")))
    assert report == {"store": str(store), "aliases": as_json(tiny("2", None, SHADOW)), "services": [service.status()]}
    assert report["services"][0]["last"]["reason"] == "switched"


def test_status_without_file_and_services(store: Path) -> None:
    assert accepted(store, "status")[1:] == ["No service of this user serves this store."]
    assert json.loads("\n".join(accepted(store, "status", "--json")))["services"] == []


def test_status_of_others_is_shown_though_one_does_not_answer(store: Path) -> None:
    first, second = FakeService(store, 1001), FakeService(store, 1002, dies_of="status")
    with running(first, second):
        result = run(store, "status")
        report = run(store, "status", "--json")
    assert (result.exit_code, report.exit_code) == (1, 1)
    assert result.stderr == report.stderr == "error: process 1002 ended before it answered\n"
    assert result.stdout.splitlines()[1:] == ["process 1001  tiny (default)  1                       1"]
    answers = [first.status(), {"pid": 1002, "error": "process 1002 ended before it answered"}]
    assert json.loads(report.stdout)["services"] == answers


# Signals, with a command of its own


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_leaves_all_as_it_was(number: signal.Signals, store: Path) -> None:
    write(store, tiny("1"))
    first, second = FakeService(store, 1001), FakeService(store, 1002, hangs=threading.Event())
    command = [sys.executable, "-m", "service", "models", "promote", "tiny/2", "--model-store", str(store)]
    with running(first, second):
        # A shell's background jobs ignore Ctrl-C, and so would this one, if the tests are one of these.
        listening = partial(signal.signal, number, signal.SIG_DFL)
        promoting = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listening
        )
        assert second.hangs is not None
        assert second.hangs.wait(60)
        assert first.current() == tiny("2")
        promoting.send_signal(number)
        _, stderr = promoting.communicate(timeout=60)
        until(lambda: second.cancelled == 1, timeout=30, what="it gave up")
    assert promoting.returncode == 1
    assert "Traceback" not in stderr
    assert "process 1001 is as it was" in stderr
    assert first.current() == second.current() == read(store) == tiny("1")


@pytest.mark.slow
def test_a_command_that_is_killed_keeps_no_lock_and_leaves_nothing(store: Path) -> None:
    write(store, tiny("1"))
    service = FakeService(store, 4711, hangs=threading.Event())
    command = [sys.executable, "-m", "service", "models", "promote", "tiny/2", "--model-store", str(store)]
    with running(service):
        promoting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert service.hangs is not None
        assert service.hangs.wait(60)
        promoting.kill()
        promoting.wait()
        until(lambda: service.cancelled == 1, timeout=30, what="the service gave up")
        assert service.current() == read(store) == tiny("1")
        accepted(store, "promote", "tiny/3")
    assert read(store) == tiny("3")
    assert sorted(path.name for path in store.iterdir()) == [ALIASES, "tiny"]
