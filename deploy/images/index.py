"""How this machine reaches its Python package index, for use inside an image build. It connects to nothing.

pip and uv inside a build see none of the machine's configuration. What is found here enters a build as secrets, which
no image keeps: index addresses may hold passwords.
"""

import configparser
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_AS_THEY_ARE = ("PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")


def index_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for pip and uv that lead both to the machine's own index; empty where it has none of its own.

    Variables win over files, uv's settings over pip's. Raises OSError or ValueError on a file that cannot be read.
    """
    home = Path(environment.get("HOME", "/"))
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    pip_files = [Path("/etc/pip.conf"), configuration / "pip" / "pip.conf", home / ".pip" / "pip.conf"]
    uv_files = [Path("/etc/uv/uv.toml"), configuration / "uv" / "uv.toml"]
    if chosen := environment.get("PIP_CONFIG_FILE"):
        pip_files.append(Path(chosen))
    if chosen := environment.get("UV_CONFIG_FILE"):
        uv_files = [Path(chosen)]
    default, extra = _of_pip_files(pip_files)
    default = environment.get("PIP_INDEX_URL") or default
    extra = environment.get("PIP_EXTRA_INDEX_URL") or extra
    uv_default, uv_extra = _of_uv_files(uv_files)
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or uv_default or default
    extra = environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL") or uv_extra or extra
    found = {name: environment[name] for name in _AS_THEY_ARE if environment.get(name)}
    if default:
        found |= {"PIP_INDEX_URL": default, "UV_DEFAULT_INDEX": default}
    if extra:
        found |= {"PIP_EXTRA_INDEX_URL": extra, "UV_INDEX": extra}
    return found


def shell_lines(settings: Mapping[str, str]) -> str:
    """The settings as a file that a shell can read."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(settings.items()))


def certificates(environment: Mapping[str, str]) -> Path | None:
    """The certificate authorities that this machine trusts, as one file; None where it has none."""
    named = [Path(environment[name]) for name in _CERTIFICATE_VARIABLES if environment.get(name)]
    return next((path for path in [*named, SYSTEM_CERTIFICATES] if path.is_file()), None)


def _of_pip_files(paths: Iterable[Path]) -> tuple[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(paths)
    sections = [section for section in ("install", "global") if parser.has_section(section)]

    def setting(name: str) -> str:
        return next((" ".join(parser[s][name].split()) for s in sections if parser.has_option(s, name)), "")

    return setting("index-url"), setting("extra-index-url")


def _of_uv_files(paths: Iterable[Path]) -> tuple[str, str]:
    merged: dict[str, Any] = {}
    for path in paths:
        if path.is_file():
            merged |= tomllib.loads(path.read_text())
    indexes: list[dict[str, Any]] = merged.get("index", [])
    default = next((str(i["url"]) for i in indexes if i.get("default")), str(merged.get("index-url", "")))
    extra = [str(i["url"]) for i in indexes if not i.get("default")] or merged.get("extra-index-url", [])
    return default, " ".join(extra)
