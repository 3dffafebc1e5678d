"""`roost call`: one call of an endpoint from the shell, direct or (queued.py) through the queue."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlsplit

import typer

from roost.cli.options import HostFlag, KeyFlag, ProfileFlag, connect, full_name, noun

if TYPE_CHECKING:
    from roost.cli.body import Body
    from roost.control.api import Api
    from roost.control.call import Answer

app = noun()


@app.command(name="call")
def call(
    endpoint: Annotated[
        str, typer.Argument(metavar="APP[/PATH]", help="OWNER/APP, OWNER/APP/PATH, an app of your own as APP, or a whole URL.")
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="BODY", help="JSON, key=text and key:=json words, @FILE, or - for stdin.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", metavar="METHOD", help="HTTP method.")] = "POST",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A request header; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answer's body there.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up after this long without an answer.", min=0.001)
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", "-q", help="Through the durable queue: show how it goes, then print the result. Ctrl-C cancels.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="With --queue: print the request's id and leave it running.")] = False,
    priority: Annotated[str, typer.Option("--priority", metavar="normal|low", help="With --queue: low waits for all that is normal.")] = "",
    start_timeout: Annotated[
        float | None, typer.Option("--start-timeout", metavar="SECONDS", help="Fail if it has not begun after this long.", min=0.101)
    ] = None,
    webhook: Annotated[str, typer.Option("--webhook", metavar="URL", help="With --queue: where the result is sent when it is there.")] = "",
    logs: Annotated[bool, typer.Option("--logs/--no-logs", help="With --queue: show what the app prints.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one line of JSON.")] = False,
    host: HostFlag = "",
    key: KeyFlag = "",
    profile: ProfileFlag = "",
) -> None:
    """Call an endpoint and print the answer.

    An answer other than 2xx goes to stderr, and the exit code is 1.
    """
    from roost.cli.body import BadBody, Body, body_of

    try:
        body = body_of(words or [], sys.stdin.buffer.read)
    except BadBody as exc:
        raise typer.BadParameter(str(exc)) from exc
    if body is None and method.upper() == "POST":
        body = Body(b"{}", "application/json")
    if not queue and (detach or priority or webhook):
        flag = "--detach" if detach else "--priority" if priority else "--webhook"
        raise typer.BadParameter(f"{flag} goes with --queue: a direct call does not wait in line.")
    if priority not in ("", "normal", "low"):
        raise typer.BadParameter(f"--priority is normal or low, not {priority!r}.")
    if start_timeout is not None:
        header = [*(header or []), f"x-fal-request-timeout: {start_timeout:g}"]
    with connect(host, key, profile) as api:
        if queue:
            from roost.cli.queued import Wish, detached, queued

            wish = Wish(_application(api, endpoint), method, _headers(header or [], body, ""), body, priority, timeout, webhook)
            if detach:
                detached(api.target, wish, as_json=as_json)
            else:
                _show(queued(api.target, wish, sys.stderr, logs=logs), output, as_json)
            return
        from roost.control.call import Call, answer

        where = api.target
        url = _url(api, endpoint)
        # A key goes only to the server that it belongs to.
        own = urlsplit(url)[:2] == urlsplit(where.host)[:2]
        with answer(
            Call(method.upper(), url, _headers(header or [], body, where.key if own else ""), body.content if body else b"", timeout), where
        ) as reply:
            _show(reply, output, as_json)


def _show(reply: Answer, output: Path | None, as_json: bool) -> None:
    if not 200 <= reply.status < 300:
        _refused(reply)
    if output is not None:
        with output.open("wb") as file:
            for chunk in reply.chunks:
                file.write(chunk)
    else:
        _print(reply, as_json)


def _url(api: Api, endpoint: str) -> str:
    if endpoint.startswith(("http://", "https://")):
        return endpoint
    path, question, query = _application(api, endpoint).partition("?")
    return f"{api.target.host}/{quote(path, safe='/~@:')}{question}{query}"


def _application(api: Api, endpoint: str) -> str:
    """OWNER/APP[/PATH][?QUERY] for what was typed."""
    if endpoint.startswith(("http://", "https://")):
        own = f"{api.target.host}/"
        if not endpoint.startswith(own):
            raise typer.BadParameter(f"the queue of {api.target.host} is not at {endpoint!r}; write OWNER/APP, or use --host.")
        endpoint = endpoint.removeprefix(own)
    path, question, query = endpoint.strip("/").partition("?")
    return f"{path if '/' in path else full_name(api, path)}{question}{query}"


def _headers(given: list[str], body: Body | None, key: str) -> list[tuple[str, str]]:
    headers = [("content-type", body.content_type)] if body else []
    if key:
        headers.append(("authorization", f"Key {key}"))
    for item in given:
        name, colon, value = item.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{item!r} is not a header; write 'Name: value'.")
        headers = [(known, text) for known, text in headers if known != name.strip().lower()]
        headers.append((name.strip().lower(), value.strip()))
    return headers


def _refused(reply: Answer) -> None:
    print(f"✗ {reply.status} {reply.reason} from {reply.url}", file=sys.stderr)
    sys.stderr.flush()
    for chunk in reply.chunks:
        sys.stderr.buffer.write(chunk)
    sys.stderr.buffer.write(b"\n")
    sys.stderr.flush()
    raise typer.Exit(1)


def _print(reply: Answer, as_json: bool) -> None:
    terminal, out = sys.stdout.isatty(), sys.stdout.buffer
    if as_json or (terminal and reply.is_json):
        content = b"".join(reply.chunks)
        try:
            value = json.loads(content)
        except ValueError:
            value = content.decode(errors="replace")
        print(json.dumps(value, ensure_ascii=False, indent=None if as_json else 2))
        return
    if terminal and not reply.is_text:
        size = sum(len(chunk) for chunk in reply.chunks)
        print(
            f"✗ The answer is {size} bytes of {reply.content_type or 'an unnamed type'}.\n  Use --output FILE, or send it on with a pipe.",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    last = b""
    for chunk in reply.chunks:
        # At once: an answer that streams is read as it comes.
        out.write(chunk)
        out.flush()
        last = chunk or last
    if terminal and not last.endswith(b"\n"):
        print()
