"""A CA, and certificates that it signs, made when they are needed."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Files go to `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def issue(self, name: str, subject: str, usage: str = "serverAuth") -> tuple[Path, Path]:
        """Certificate and key; `subject` as OpenSSL has it, such as "/CN=alice"."""
        key, request, made = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8",
            "-subj", subject, "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(made),
        )  # fmt: skip
        return made, key


def _openssl(*words: str) -> None:
    result = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0, result.stderr
