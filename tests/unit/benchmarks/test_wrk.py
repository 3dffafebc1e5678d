"""What wrk is told, and what it says."""

from __future__ import annotations

import pytest

from benchmarks.harness import wrk
from benchmarks.harness.wrk import Post, WrkFailed, parse

OUTPUT = """Running 2s test @ http://127.0.0.1:8700/me/echo
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.33ms    2.22ms  23.64ms   77.57%
    Req/Sec     2.17k   388.54     3.37k    73.33%
  6500 requests in 3.01s, 1.49MB read
Requests/sec:   2160.91
Transfer/sec:    506.46KB
measured calls=6500 us=3008000 p50=7210 p99=14310 max=23640 status=0 broken=0
"""


def test_the_line_of_our_script_is_what_counts():
    load = parse(OUTPUT)
    assert (load.calls, load.seconds, load.p50_ms, load.p99_ms, load.max_ms, load.refused, load.broken) == (
        6500,
        3.008,
        7.21,
        14.31,
        23.64,
        0,
        0,
    )
    assert load.calls_s == pytest.approx(2160.9, abs=0.1)


def test_failed_calls_are_told_apart_from_broken_connections():
    load = parse("measured calls=10 us=1000000 p50=1 p99=2 max=3 status=4 broken=5\n")
    assert (load.refused, load.broken) == (4, 5)


def test_output_without_figures_is_an_error_that_shows_it():
    with pytest.raises(WrkFailed, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_body_reaches_wrk_whatever_it_is_made_of():
    script = Post("http://127.0.0.1:1/", 'a"\\\n]]é', {"Authorization": "Key a:b"}).script()
    assert r'wrk.body = "a\034\092\010\093\093\195\169"' in script
    assert r'wrk.headers["Authorization"] = "Key\032a\058b"' in script


def test_a_missing_wrk_is_told_with_how_to_install_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(WrkFailed, match="apt-get install wrk"):
        wrk.require()
