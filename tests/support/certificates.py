"""Certificates of a test: an authority, a server's, clients'."""

from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization as form


class Certificates:
    """An authority and what it issued, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def server(self, name: str = "server") -> Path:
        """Key and certificate for 127.0.0.1 and localhost, in one file."""
        return self._write(name, self._authority.issue_cert("127.0.0.1", "localhost"))

    def client(self, name: str) -> Path:
        """Key and certificate of a client whose common name this is, in one file."""
        leaf = self._authority.issue_cert(f"{name}.test", common_name=name)
        return self._write(name, leaf)

    def _write(self, name: str, leaf: trustme.LeafCert) -> Path:
        # Kafka reads keys in the form PKCS #8 only.
        key = form.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        text = key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        ) + b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        file = self._folder / f"{name}.pem"
        file.write_bytes(text)
        return file

    def encrypted_key(self, name: str, password: str) -> Path:
        """The key of an issued certificate, encrypted."""
        key = form.load_pem_private_key((self._folder / f"{name}.pem").read_bytes(), None)
        file = self._folder / f"{name}-key.pem"
        file.write_bytes(
            key.private_bytes(
                form.Encoding.PEM,
                form.PrivateFormat.PKCS8,
                form.BestAvailableEncryption(password.encode()),
            )
        )
        return file
