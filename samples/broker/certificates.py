"""Certificates for a federation: an authority, the broker, the coordinator, and each device.

    python -m samples.broker.certificates --host broker.example pi-4 pi-5

Run it again with other names for devices that come later: existing files stay. Give each device its own .pem and .key,
and ca.pem. Keep ca.key secret: its owner can impersonate anybody. To shut a device out, see README.md.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_sdk.wire import check_name

AUTHORITY, BROKER, COORDINATOR = "ca", "broker", "coordinator"
_RESERVED = (AUTHORITY, BROKER, COORDINATOR)


def main(
    devices: Annotated[list[str], typer.Argument(help="Names of devices in the federation.", show_default=False)],
    host: Annotated[list[str], typer.Option(help="Names and addresses that devices reach the broker by.")] = [  # noqa: B006
        "localhost",
        "127.0.0.1",
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(__file__).parent / "certificates",
    days: Annotated[
        int, typer.Option(min=1, help="How long certificates hold; the authority's ten times as long.")
    ] = 825,
) -> None:
    """Make the certificates of the authority, the broker, the coordinator and the devices that do not exist yet."""
    for name in devices:
        check_name(name)
        if name in _RESERVED:
            raise typer.BadParameter(f"{name!r} is taken: choose another name for the device.")
    for path in make(out, devices, host, days):
        typer.echo(f"wrote {path}")


def make(folder: Path, devices: list[str], hosts: list[str], days: int) -> list[Path]:
    """Write the certificates that do not exist yet, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    if not (folder / f"{AUTHORITY}.pem").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Impasto federation")
        builder = _builder(name, name, key, 10 * days).add_extension(x509.BasicConstraints(True, 0), critical=True)
        made += _write(folder, AUTHORITY, key, builder.sign(key, hashes.SHA256()))
    authority = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / f"{AUTHORITY}.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey), "made above"
    for name in (BROKER, COORDINATOR, *devices):
        if (folder / f"{name}.pem").exists():
            continue
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), authority.subject, key, days)
        use = ExtendedKeyUsageOID.SERVER_AUTH if name == BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if name == BROKER:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        made += _write(folder, name, key, builder.sign(signer, hashes.SHA256()))
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Devices' clocks may be slow.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> list[Path]:
    """Write a key, readable by its owner only, then its certificate: one without a key would never be made again."""
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = [folder / f"{name}.key", folder / f"{name}.pem"]
    with os.fdopen(os.open(paths[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(private)
    paths[1].write_bytes(certificate.public_bytes(pem))
    return paths


if __name__ == "__main__":
    typer.run(main)
