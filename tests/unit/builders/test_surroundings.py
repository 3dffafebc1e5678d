from __future__ import annotations

from pathlib import Path

from roost.builders.base import BuildSettings
from roost.builders.surroundings import search_path, uv_environ


def environ(given: dict[str, str], settings: BuildSettings | None = None) -> dict[str, str]:
    return uv_environ(given, settings or BuildSettings(), Path("/state/uv-cache"), Path("/state"))


def test_nothing_of_the_server_s_own_reaches_a_build() -> None:
    env = environ({"ROOST_KEY": "id:secret", "AWS_SECRET_ACCESS_KEY": "x", "UV_HTTP_TIMEOUT": "5", "https_proxy": "http://p:1"})
    assert "ROOST_KEY" not in env and "AWS_SECRET_ACCESS_KEY" not in env
    assert env["UV_HTTP_TIMEOUT"] == "5" and env["https_proxy"] == "http://p:1"


def test_what_would_install_elsewhere_is_left_out() -> None:
    assert (
        not {"UV_PYTHON", "UV_SYSTEM_PYTHON", "VIRTUAL_ENV"}
        & environ({"UV_PYTHON": "3.9", "UV_SYSTEM_PYTHON": "1", "VIRTUAL_ENV": "/v"}).keys()
    )


def test_an_empty_environment_gets_a_cache_and_a_home_in_the_state_folder() -> None:
    env = environ({})
    assert (env["UV_CACHE_DIR"], env["HOME"], env["UV_PYTHON_DOWNLOADS"]) == ("/state/uv-cache", "/state", "never")
    assert environ({"UV_CACHE_DIR": "/big/cache"})["UV_CACHE_DIR"] == "/big/cache"


def test_a_machine_s_own_certificates_are_trusted_where_it_has_some(tmp_path: Path) -> None:
    def certificates(given: dict[str, str]) -> str | None:
        return uv_environ(given, BuildSettings(), tmp_path, tmp_path, certs=(tmp_path / "ca.crt",)).get("UV_SYSTEM_CERTS")

    assert certificates({}) is None
    (tmp_path / "ca.crt").touch()
    assert certificates({}) == "true"
    assert certificates({"UV_SYSTEM_CERTS": "false"}) == "false"


def test_settings_win_over_variables_for_the_index_and_add_to_them_for_the_rest() -> None:
    settings = BuildSettings("https://a/simple", ("https://b/simple",), ("/wheels",), "automatic")
    env = environ(
        {"UV_INDEX_URL": "https://old", "UV_INDEX": "https://c/simple", "UV_FIND_LINKS": "/more", "UV_PYTHON_DOWNLOADS": "never"}, settings
    )
    assert env["UV_DEFAULT_INDEX"] == "https://a/simple" and "UV_INDEX_URL" not in env
    assert env["UV_INDEX"] == "https://b/simple https://c/simple"
    assert env["UV_FIND_LINKS"] == "/wheels,/more"
    assert env["UV_PYTHON_DOWNLOADS"] == "automatic"


def test_pip_s_variables_count_where_uv_s_own_are_not_set() -> None:
    pip = {"PIP_INDEX_URL": "https://p/simple", "PIP_EXTRA_INDEX_URL": "https://q/simple"}
    env = environ(pip)
    assert (env["UV_DEFAULT_INDEX"], env["UV_EXTRA_INDEX_URL"]) == ("https://p/simple", "https://q/simple")
    env = environ({**pip, "UV_INDEX_URL": "https://u/simple"})
    assert "UV_DEFAULT_INDEX" not in env and env["UV_INDEX_URL"] == "https://u/simple"


def test_interpreters_of_pyenv_are_found_behind_its_shims(tmp_path: Path) -> None:
    for version in ("3.12.1", "3.10.2", "2.7.18", "3.9.18", "anaconda"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
    path = search_path(f"{tmp_path}/shims:/usr/bin", tmp_path)
    assert path.split(":") == ["/usr/bin", f"{tmp_path}/versions/3.10.2/bin", f"{tmp_path}/versions/3.12.1/bin"]
