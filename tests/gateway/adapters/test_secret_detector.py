"""What user-data may hold: key material of many kinds is found, and what machines usually boot with is not refused."""

import base64
import json
import os
import random
import re
import socket
import string
import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs import keys
from gateway.adapters import secret_detector
from gateway.adapters.secret_detector import SecretDetector

DETECTOR = SecretDetector()
KEY = keys.dump_private_pem(keys.generate()).decode()
AWS_ID, AWS_SECRET = "AKIAIOSFODNN7ABCDEFG", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"[:40]

SECRETS = {
    "AWS key id": f"export AWS_ACCESS_KEY_ID={AWS_ID}",
    "AWS secret, named": f'aws_secret_access_key = "{AWS_SECRET}"',
    "AWS secret, not quoted": f"export X={AWS_SECRET}",
    "AWS session": "export AWS_SESSION_TOKEN=" + base64.b64encode(bytes(range(180))).decode(),
    "PEM key": KEY,
    "PEM key, indented": "\n".join("      " + line for line in KEY.splitlines()),
    "PEM key, its middle alone": KEY.splitlines()[1],
    "PEM key, encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "OpenSSH key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "a key in base64": base64.b64encode(KEY.encode()).decode(),
    "GitHub token": "git clone https://ghp_abcdefghijklmnopqrstuvwxyzABCDEFGHIJ@github.com/a/b",
    "GitHub fine-grained token": "T=github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
    "GitLab token": "glpat-abcDEF0123456789abcd",
    "Slack token": "xoxb-1234567890-1234567890123-abcdefghijklmnopqrstuvwx",
    "a password": 'password: "hunter2hunter2"',
    "a password, not quoted": "DB_PASSWORD=correcthorse",
    "a password in an address": "postgres://app:s3cretpw@db.internal/app",
    "a JSON web token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "a ticket of ours": "ticket=" + "0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778",
    "one that asks to be overlooked": f"X={AWS_SECRET}  # pragma: allowlist secret",
    "one behind a certificate that is none": f"-----BEGIN CERTIFICATE-----\nX={AWS_SECRET}",
    "one that says that it is a certificate": f"-----BEGIN CERTIFICATE-----\n{AWS_SECRET}\n-----END CERTIFICATE-----",
    "a key that says that it is a public one": KEY.replace("PRIVATE KEY", "PUBLIC KEY"),
}  # fmt: skip

HARMLESS = """#cloud-config
#!/bin/bash -eux
packages: [nginx, python3, unattended-upgrades]
runcmd:
  - [systemctl, enable, --now, trusted-gateway-agent]
curl -fsSL https://s3.amazonaws.com/amazoncloudwatch-agent/ubuntu/amd64/latest/amazon-cloudwatch-agent.deb -o /tmp/a.deb
export JAVA_HOME=/usr/lib/jvm/java-17-amazon-corretto.x86_64/Contents/Home
ssh_pwauth: false
chpasswd: {expire: false}
lock_passwd: true
passwd: "*"
pip install --require-hashes foo==1.0 --hash=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
docker run -d registry.example.com/Team/App@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzYkqWq5yFfQ2dN7bqk2c0n3XbXHqZ2H6sI8n0Yj3cT alice@example.com
DB_PASSWORD=$(aws secretsmanager get-secret-value --secret-id prod/db --query SecretString --output text)
export VPC=vpc-0123456789abcdef0 SUBNET=subnet-0fedcba9876543210 AMI=ami-0abcdef1234567890
ROLE=arn:aws:iam::111122223333:role/aws-service-role/ReadOnlyAccessForThings2
id: 123e4567-e89b-12d3-a456-426614174000
echo "Welcome to the web server of team Reports, 2026" > /etc/motd
echo 'net.ipv4.ip_forward = 1' >> /etc/sysctl.d/99-forward.conf
server 10.0.0.1:8443; dns 8.8.8.8
password_file: /run/credentials/db
KUBERNETES_SERVICE_ACCOUNT_NAMESPACE=default
wget https://github.com/prometheus/node_exporter/releases/download/v1.8.2/node_exporter-1.8.2.linux-amd64.tar.gz
"""


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_found_and_not_repeated(what: str) -> None:
    found = DETECTOR(f"{HARMLESS}{SECRETS[what]}\n")
    assert found, what
    assert min(each.line for each in found) > len(HARMLESS.splitlines())
    told = " ".join(map(str, found))
    for word in SECRETS[what].split():
        assert len(word) < 12 or word not in told


def test_what_machines_usually_boot_with_is_no_secret() -> None:
    """The control."""
    assert [(each, HARMLESS.splitlines()[each.line - 1]) for each in DETECTOR(HARMLESS)] == []


def test_certificates_and_public_keys_are_no_secrets() -> None:
    key, name, now = keys.generate(), x509.Name([]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    encodings = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    certificate = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    public_key = key.public_key().public_bytes(*encodings).decode()
    for public in (certificate, public_key, textwrap.indent(certificate + public_key, "    ").replace("\n", "\r\n")):
        assert DETECTOR(f"ca_certs:\n  trusted:\n  - |\n{public}\nruncmd: [ls]\n") == ()
    for pretends in (certificate.replace("CERTIFICATE", "PUBLIC KEY"), public_key.replace("PUBLIC", "PRIVATE")):
        assert DETECTOR(pretends) != ()


def test_no_aws_secret_key_gets_through() -> None:
    letters, dice = string.ascii_letters + string.digits + "+/", random.Random(7)  # noqa: S311
    for _ in range(3000):
        assert DETECTOR("X=" + "".join(dice.choices(letters, k=40)))


def line_of(length: int, filler: str = "a, ") -> str:
    return filler * (length // len(filler))


@pytest.mark.parametrize("before", [0, 200, 250, 256, 400, 505, 511, 512, 760, 14000])
@pytest.mark.parametrize("after", [0, 1, 300, 1000])
def test_a_secret_is_found_wherever_it_stands_in_a_long_line(before: int, after: int) -> None:
    for secret in (
        "password: hunter2hunter2, ",
        '"hunter2hunter2" == db_password ',
        f" {AWS_ID} ",
        "x://a:s3cretpw@b ",
    ):
        assert DETECTOR(line_of(before) + secret + line_of(after)), secret


@pytest.mark.parametrize("before", range(0, 520, 7))
def test_a_long_line_is_not_cut_into_a_secret(before: int) -> None:
    """The control: what is no secret whole is none in pieces."""
    harmless = json.dumps({"x": line_of(before), "lock_passwd": True, "passwd": None, "password_file": "/run/x"})
    harmless += " passwd: ${SECRET}, " + "password=$(aws secretsmanager get-secret-value) "
    assert DETECTOR(harmless + line_of(1000)) == ()


def test_the_second_of_a_line_is_looked_at_too() -> None:
    assert DETECTOR(json.dumps({"lock_passwd": True, "passwd": "hunter2hunter2"}))


def test_no_expression_of_theirs_sees_a_long_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time grows with the square of a line, and with the cube of its blanks, and nothing else runs meanwhile."""
    seen: list[str] = []

    class Seeing:
        secret_type = "x"

        def analyze_string(self, piece: str) -> list[str]:
            seen.append(piece)
            return []

        def finditer(self, piece: str) -> list[str]:
            return self.analyze_string(piece)

    monkeypatch.setattr(secret_detector, "_PLAIN", [Seeing()])
    monkeypatch.setattr(secret_detector, "_KEYWORDS", {Seeing(): 0})
    for line in (
        "password" * 1900,
        "password" + " \t" * 7000,
        "sk-" * 5000,
        "a" * 512,
        "a" * 513,
        "a" * 768,
        "a" * 769,
    ):
        seen.clear()
        DETECTOR(line)
        squeezed = re.sub(r"\s+", " ", line)
        assert max(map(len, seen)) <= 512
        assert not any("  " in each or "\t" in each for each in seen)
        assert "".join(each[:256] for each in seen[: len(seen) // 2]).startswith(squeezed[:-256])
        assert seen[-1].endswith(squeezed[-256:])


def test_their_expressions_do_not_try_each_shorter_word() -> None:
    slow = [each.pattern for each in secret_detector._KEYWORDS if re.search(r"\)\\w\*(?!\+)", each.pattern)]
    assert (slow, len(secret_detector._KEYWORDS)) == ([], 4)


def test_nobody_is_asked_and_no_line_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket, "create_connection", no)
    monkeypatch.setattr(socket, "getaddrinfo", no)
    assert DETECTOR(f"{AWS_ID} {AWS_SECRET}")
    for line in ("password=" * 1700, "a" * 15360, json.dumps({"k": ["x"] * 3000}), os.urandom(15000).decode("latin-1")):
        DETECTOR(line)
