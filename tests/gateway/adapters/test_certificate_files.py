"""Files of certificates that the settings name: what is no CA, or is ours, is no anchor; a list gone is noticed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.adapters.certificate_files import CrlFile, anchors
from gateway.core.errors import Refusal, SettingsError
from gateway.core.rolesanywhere import AnchorFiles
from tests.foreign import ForeignCa, Holder

CORP, PLANT = ForeignCa("Corp"), ForeignCa("Plant")


def files(path: Path, crl: Path | None = None) -> list[AnchorFiles]:
    return [AnchorFiles("corp", str(path), str(crl) if crl else None, ("web",), "eu-central-1")]


def test_an_anchor_has_every_root_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(CORP.pem + PLANT.pem)
    found = anchors(files(path), [ForeignCa("ours").certificate.public_bytes(Encoding.DER)])["corp"]
    assert found.roots == (CORP.certificate, PLANT.certificate)
    assert (found.name, found.profiles, found.region, found.crls) == ("corp", ("web",), "eu-central-1", None)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no PEM",
        CORP.leaf().pem,
        CORP.intermediate().chain[0].public_bytes(Encoding.PEM),
        CORP.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_root_is_no_anchor(tmp_path: Path, pem: bytes) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(pem)
    with pytest.raises(SettingsError, match=r"trust_anchors\.corp\.certificates"):
        anchors(files(path), [])
    with pytest.raises(SettingsError, match="absent"):
        anchors(files(tmp_path / "absent.pem"), [])


@pytest.mark.threat("B01")
def test_b01_our_own_ca_is_no_anchor_even_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(ForeignCa("another name", CORP.key).pem)
    with pytest.raises(SettingsError, match="own CA"):
        anchors(files(path), [CORP.certificate.public_bytes(Encoding.DER)])
    assert anchors(files(path), [PLANT.certificate.public_bytes(Encoding.DER)])


def test_a_list_is_read_again_when_it_has_changed_and_refused_when_it_is_gone(tmp_path: Path) -> None:
    path, holder = tmp_path / "crl.pem", CORP.leaf()
    lists = CrlFile(path)

    def revoked(who: Holder) -> bool:
        return any(each.get_revoked_certificate_by_serial_number(who.certificate.serial_number) for each in lists())

    path.write_bytes(CORP.crl() + PLANT.crl())
    assert len(lists()) == 2
    assert not revoked(holder)
    _replace(path, CORP.crl(holder.certificate))
    assert revoked(holder)
    changes: list[Callable[[], object]] = [
        lambda: _replace(path, b""),
        lambda: _replace(path, CORP.pem),
        lambda: _replace(path, CORP.crl()[:-40]),
        path.unlink,
    ]
    for change in changes:
        change()
        for _ in range(2):
            with pytest.raises(Refusal) as refused:
                lists()
            assert refused.value.reason == "crl_unreadable"
    _replace(path, CORP.crl())
    assert not revoked(holder)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
