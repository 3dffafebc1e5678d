"""The guarded fetcher against real servers on this machine, which its allow-list names. Time is virtual: a drip of minutes takes none."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import roost
from roost.kit.fetch import IDLE_S, JUDGED_S, Fetched, Fetcher, FetchFailed, Limits, Refused, judge_url, system_trust
from roost.kit.targets import Address
from roost.testkit.loop import VirtualLoop

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture
def run() -> Iterator[Run[Any]]:
    """Runs a coroutine on a loop whose time jumps."""
    loop = VirtualLoop()
    yield loop.run_until_complete
    loop.run_until_complete(asyncio.sleep(IDLE_S + 1))
    left = asyncio.all_tasks(loop)
    loop.close()
    assert not left


async def question(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return head + await reader.readexactly(int(length or b"0"))


@contextlib.asynccontextmanager
async def serving(talk: Talk, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on this machine; the port that it has."""
    writers: list[asyncio.StreamWriter] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    server = await asyncio.start_server(guarded, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


def answering(*answers: bytes, close: bool = False) -> tuple[Talk, list[bytes]]:
    """A server that gives these answers, the last one again and again; and what it was asked."""
    asked: list[bytes] = []
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked.append(await question(reader))
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            if close:
                writer.close()
                return

    return talk, asked


class Names:
    """A resolver that answers what the test says, each answer once and the last one for ever."""

    def __init__(self, *answers: list[str] | OSError | float) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return [LOOPBACK]
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, list)
        return [ip_address(text) for text in answer]


async def fetch(port: int, limits: Limits = Limits(), method: str = "GET") -> Fetched:
    return await Fetcher(["127.0.0.1"]).fetch(method, f"http://127.0.0.1:{port}/", limits=limits)


async def test_what_goes_out_is_what_was_given_and_four_fields():
    talk, asked = answering(OK)
    async with serving(talk) as port:
        fetcher = Fetcher(["127.0.0.1"])
        os.environ["http_proxy"] = "http://127.0.0.1:1"
        try:
            given = [(b"content-type", b"application/json"), (b"x-fal-webhook-request-id", b"abc")]
            got = await fetcher.fetch("POST", f"http://127.1:{port}/a%20b?c=%2F#d", given, b"{}")
            await fetcher.fetch("GET", f"http://127.0.0.1:{port}", [(b"User-Agent", b"mine"), (b"accept", b"text/plain")])
        finally:
            del os.environ["http_proxy"]
        fetcher.close()
    assert got == Fetched(200, [(b"content-length", b"2")], b"ok", "127.0.0.1")
    assert asked == [
        b"POST /a%%20b?c=%%2F HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nuser-agent: Roost/%s\r\naccept: */*\r\ncontent-length: 2\r\n"
        b"content-type: application/json\r\nx-fal-webhook-request-id: abc\r\n\r\n{}" % (port, roost.__version__.encode()),
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nUser-Agent: mine\r\naccept: text/plain\r\n\r\n" % port,
    ]


@pytest.mark.parametrize(
    "field", [(b"host", b"x"), (b"Content-Length", b"1"), (b"transfer-encoding", b"chunked"), (b"x", b"a\r\nb: c"), (b"a b", b"c")]
)
async def test_fields_that_would_be_another_request_are_a_mistake(field: tuple[bytes, bytes]):
    with pytest.raises(ValueError):
        await Fetcher(["localhost"]).fetch("GET", "http://localhost/", [field])


async def test_without_an_allow_list_nothing_here_is_reached():
    talk, asked = answering(OK)
    async with serving(talk) as port:
        for url in (
            f"http://127.0.0.1:{port}/",
            f"http://2130706433:{port}/",
            f"http://[::ffff:127.0.0.1]:{port}/",
            f"http://localhost:{port}/",
        ):
            with pytest.raises(Refused):
                judge_url(url)
            with pytest.raises(Refused):
                await Fetcher().fetch("GET", url)
        with pytest.raises(Refused, match=r"receiver\.example is at 127\.0\.0\.1"):
            await Fetcher(resolve=Names(["127.0.0.1"])).fetch("GET", f"http://receiver.example:{port}/")
    assert asked == []


async def test_a_name_of_this_machine_is_found_by_the_system_and_judged():
    talk, asked = answering(OK)
    async with serving(talk) as port:
        assert (await Fetcher(["localhost"]).fetch("GET", f"http://localhost:{port}/")).address == "127.0.0.1"
        with pytest.raises(Refused):
            await Fetcher(["localhost:1"]).fetch("GET", f"http://localhost:{port}/")
    assert len(asked) == 1


async def test_a_name_that_nobody_has_is_a_failure_and_not_a_refusal():
    with pytest.raises(FetchFailed, match=r"receiver\.invalid cannot be resolved") as failed:
        await Fetcher().fetch("GET", "http://receiver.invalid/")
    assert not failed.value.timed_out


def test_a_name_that_changes_its_address_is_judged_anew_each_time_it_is_looked_up(run: Run[None]):
    """DNS rebinding: public for who judges, private for who dials."""

    async def case() -> None:
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        fetcher = Fetcher(["127.0.0.2"], resolve=names)  # 127.0.0.2 stands for the public address
        talk, asked = answering(OK)
        hidden, reached = answering(OK)
        async with serving(talk, "127.0.0.2") as port, serving(hidden, "127.0.0.1", port):
            url = f"http://rebinds.example:{port}/"
            for _ in range(3):
                assert (await fetcher.fetch("GET", url)).address == "127.0.0.2"
            assert names.asked == 1
            await asyncio.sleep(6)
            with pytest.raises(Refused, match=r"is at 127\.0\.0\.1"):
                await fetcher.fetch("GET", url)
            assert len(asked) == 3 and reached == [] and names.asked == 2

    run(case())


def test_of_a_names_addresses_only_the_good_ones_are_dialled(run: Run[None]):
    async def case() -> None:
        talk, asked = answering(OK)
        hidden, reached = answering(OK)
        # Nobody listens at 127.0.0.3, which is allowed as well: the next one is tried.
        fetcher = Fetcher(["127.0.0.2", "127.0.0.3"], resolve=Names(["127.0.0.1", "::1", "127.0.0.3", "127.0.0.2"]))
        async with serving(talk, "127.0.0.2") as port, serving(hidden, "127.0.0.1", port):
            assert (await fetcher.fetch("GET", f"http://mixed.example:{port}/")).address == "127.0.0.2"
        assert len(asked) == 1 and reached == []

    run(case())


def test_a_connection_is_kept_no_longer_than_its_judgement(run: Run[None]):
    async def case() -> None:
        names = Names(["127.0.0.1"])
        fetcher = Fetcher(["busy.example"], resolve=names)
        connections = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while True:
                await question(reader)
                writer.write(OK)

        async with serving(talk) as port:
            for _ in range(int(JUDGED_S)):
                await fetcher.fetch("POST", f"http://busy.example:{port}/")
                await asyncio.sleep(1)
            assert (connections, names.asked) == (2, 2)

    run(case())


def test_who_does_not_answer_costs_no_more_than_its_time(run: Run[None]):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def case() -> None:
        loop = asyncio.get_running_loop()
        async with serving(silent) as port:
            since = loop.time()
            with pytest.raises(FetchFailed, match="no answer within 15 s") as failed:
                await fetch(port)
            assert failed.value.timed_out and loop.time() - since == pytest.approx(15, abs=0.1)

    run(case())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 1000, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000, b"HTTP/1.1 100 C\r\n\r\n" * 1000]
)
def test_who_drips_costs_no_more_than_its_time(run: Run[None], answer: bytes):
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        for at in range(len(answer)):
            if writer.is_closing():
                return
            writer.write(answer[at : at + 1])
            await asyncio.sleep(1)

    async def case() -> None:
        loop = asyncio.get_running_loop()
        async with serving(drip) as port:
            since = loop.time()
            with pytest.raises(FetchFailed) as failed:
                await fetch(port, Limits(total_s=120))
            assert failed.value.timed_out and loop.time() - since == pytest.approx(120, abs=1)

    run(case())


def test_a_name_server_that_hangs_costs_the_time_to_connect_and_is_not_asked_again_meanwhile(run: Run[None]):
    async def case() -> None:
        names = Names(60.0)
        fetcher = Fetcher(["127.0.0.1"], resolve=names)
        for _ in range(5):
            with pytest.raises(FetchFailed, match="not resolved within 10 s") as failed:
                await fetcher.fetch("GET", "http://slow.example:1/")
            assert failed.value.timed_out
        assert names.asked == 1
        await asyncio.sleep(60)

    run(case())


async def test_a_name_that_failed_is_looked_up_again_at_once():
    talk, _ = answering(OK)
    async with serving(talk) as port:
        fetcher = Fetcher(["127.0.0.1"], resolve=Names(OSError(-3, "Temporary failure in name resolution"), [], ["127.0.0.1"]))
        url = f"http://flaky.example:{port}/"
        with pytest.raises(FetchFailed, match=r"flaky\.example cannot be resolved: Temporary failure"):
            await fetcher.fetch("GET", url)
        with pytest.raises(FetchFailed, match="has no address"):
            await fetcher.fetch("GET", url)


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/", "/again"])
async def test_redirects_are_not_followed(location: str):
    talk, asked = answering(b"HTTP/1.1 302 Found\r\nlocation: %s\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n" % location.encode())
    async with serving(talk) as port:
        fetcher = Fetcher(["127.0.0.1"])
        for _ in range(2):
            assert (await fetcher.fetch("POST", f"http://127.0.0.1:{port}/")).status == 302
        fetcher.close()
    assert len(asked) == 2 and b"cookie" not in asked[1]


@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 10000000\r\n\r\n" + b"x" * 1_000_000,
        b"\r\n" + b"x" * 1_000_000,
        b"transfer-encoding: chunked\r\n\r\n" + b"186a0\r\n" + b"x" * 100_000 + b"\r\n",
        b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000,
        b"transfer-encoding: chunked\r\n\r\n" + (b"1;" + b"e" * 10_000 + b"\r\nx\r\n") * 1_000,
    ],
)
async def test_of_a_huge_body_only_the_beginning_is_read(body: bytes):
    talk, _ = answering(b"HTTP/1.1 200 OK\r\n" + body)
    async with serving(talk) as port:
        got = await fetch(port)
        assert got.cut and got.status == 200 and len(got.body) <= 64 * 1024 and set(got.body) <= {ord("x")}


async def test_what_is_compressed_stays_so():
    bomb = gzip.compress(b"0" * 10_000_000)
    talk, _ = answering(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb)
    async with serving(talk) as port:
        got = await fetch(port)
        assert got.body == bomb and not got.cut


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x-huge: " + b"h" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-many: h\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100_000,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_told_with_a_reason(answer: bytes):
    talk, _ = answering(answer)
    async with serving(talk) as port:
        with pytest.raises(FetchFailed, match=r"no HTTP answer|more than the head") as failed:
            await fetch(port)
        assert not failed.value.timed_out and not failed.value.tls


@pytest.mark.parametrize(
    ("answer", "why"), [(b"", "without an answer"), (b"HTTP/1.1 2", "before its answer"), (OK[:-1], "before its answer")]
)
async def test_who_hangs_up_has_not_answered(answer: bytes, why: str):
    talk, asked = answering(answer, close=True)
    async with serving(talk) as port:
        with pytest.raises(FetchFailed, match=why):
            await fetch(port)
    assert len(asked) == 1


async def test_an_answer_without_a_length_ends_with_its_connection():
    talk, _ = answering(b"HTTP/1.0 410 Gone\r\n\r\nbye", close=True)
    async with serving(talk) as port:
        assert await fetch(port) == Fetched(410, [], b"bye", "127.0.0.1")


async def test_an_answer_without_a_body_is_one_whatever_its_length_says():
    talk, _ = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    async with serving(talk) as port:
        assert (await fetch(port, method="HEAD")).body == b""


async def test_a_port_where_nobody_listens_is_told():
    async with serving(answering(OK)[0]) as port:
        pass
    with pytest.raises(FetchFailed, match="cannot be reached") as failed:
        await fetch(port)
    assert not failed.value.timed_out and not failed.value.tls


async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing():
    """The receiver ends the connection just when the next question is on its way."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await question(reader))
        writer.write(OK)
        seen.append(await question(reader))
        writer.close()

    async with serving(talk) as port:
        fetcher = Fetcher(["127.0.0.1"])
        for number in range(2):
            assert (await fetcher.fetch("POST", f"http://127.0.0.1:{port}/{number}")).status == 200
        fetcher.close()
    assert [asked.split()[1] for asked in seen] == [b"/0", b"/1", b"/1"]


async def test_an_answer_that_was_sent_before_its_question_answers_nothing():
    """A receiver must not choose what the next delivery on its connection is told."""
    talk, asked = answering(OK + b"HTTP/1.1 500 Made Up\r\ncontent-length: 0\r\n\r\n", OK)
    async with serving(talk) as port:
        fetcher = Fetcher(["127.0.0.1"])
        for _ in range(2):
            assert (await fetcher.fetch("GET", f"http://127.0.0.1:{port}/")).status == 200
        fetcher.close()
    assert len(asked) == 2


async def test_who_stops_waiting_takes_the_connection_with_it():
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        asked.set()
        await reader.read()
        closed.set()

    async with serving(talk) as port:
        waiting = asyncio.ensure_future(fetch(port))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await closed.wait()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For receiver.example and for 127.0.0.1, signed by itself; key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.example"), x509.IPAddress(LOOPBACK)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_the_certificate_must_be_that_of_the_name_and_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    talk, asked = answering(OK)
    async with serving(talk, tls=server_side(certificate)) as port:
        names = Names(["127.0.0.1"])
        strict = Fetcher(["127.0.0.1"], resolve=names)
        with pytest.raises(FetchFailed, match=r"certificate of receiver\.example.* is not valid") as failed:
            await strict.fetch("GET", f"https://receiver.example:{port}/")
        assert failed.value.tls

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetcher = Fetcher(["127.0.0.1"], resolve=names, trust=system_trust)
        for host in ("receiver.example", "127.0.0.1"):
            assert (await fetcher.fetch("GET", f"https://{host}:{port}/")).body == b"ok"
        with pytest.raises(FetchFailed, match="is not valid") as failed:
            await fetcher.fetch("GET", f"https://other.example:{port}/")
        assert failed.value.tls
        fetcher.close()
    assert len(asked) == 2


async def test_tls_with_who_does_not_speak_it_is_told():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with serving(talk) as port:
        with pytest.raises(FetchFailed) as failed:
            await Fetcher(["127.0.0.1"]).fetch("GET", f"https://127.0.0.1:{port}/")
        assert failed.value.tls


def test_a_handshake_that_hangs_costs_the_time_to_connect(run: Run[None]):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()

    async def case() -> None:
        async with serving(silent) as port:
            with pytest.raises(FetchFailed, match="took no connection within its time") as failed:
                await Fetcher(["127.0.0.1"]).fetch("GET", f"https://127.0.0.1:{port}/")
            assert failed.value.timed_out and asyncio.get_running_loop().time() < 11

    run(case())


def test_it_does_the_same_on_the_servers_own_loop(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def case() -> None:
        fetcher = Fetcher(["127.0.0.1", "localhost"])
        talk, asked = answering(OK)
        huge, _ = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n" + b"x" * 1_000_000)
        async with serving(talk) as plain, serving(talk, tls=server_side(certificate)) as secure, serving(huge) as large:
            for url in (f"http://localhost:{plain}/", f"https://127.0.0.1:{secure}/"):
                for _ in range(2):
                    assert (await fetcher.fetch("POST", url, body=b"{}")).body == b"ok"
            assert (await fetcher.fetch("GET", f"http://127.0.0.1:{large}/")).cut
            with pytest.raises(FetchFailed) as failed:
                await fetcher.fetch("GET", f"https://localhost:{secure}/")
            assert failed.value.tls
            with pytest.raises(FetchFailed) as failed:
                await fetcher.fetch("GET", f"https://127.0.0.1:{plain}/", limits=Limits(0.5, 0.1))
            assert failed.value.timed_out
        with pytest.raises(FetchFailed, match="cannot be reached"):
            await fetcher.fetch("GET", f"http://127.0.0.1:{plain}/")
        fetcher.close()
        assert len(asked) == 4

    uvloop.run(case())
