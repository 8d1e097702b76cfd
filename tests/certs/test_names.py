"""names: one spelling for each identity, and nothing that could be read as another (threat B22, its names)."""

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certs import names
from certs.errors import CertificateError
from certs.names import InstanceName, OperatorName, ServerNames
from tests.certs.made import INSTANCE_NAME, OPERATOR_NAME, Crooked, leaf

trust_domains = st.from_regex(r"[a-z0-9._-]{1,255}", fullmatch=True)
instance_names = st.builds(
    InstanceName,
    trust_domains,
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.sampled_from(["us-east-1", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1", "ap-southeast-11"]),
    st.from_regex(r"i-[0-9a-f]{8,17}", fullmatch=True),
)
operator_names = st.builds(
    OperatorName, trust_domains, st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
)


@given(instance_names)
def test_an_instance_name_survives_its_uri(name: InstanceName) -> None:
    assert InstanceName.parse(name.uri) == name
    assert len(name.uri) <= 2048
    with pytest.raises(CertificateError):
        OperatorName.parse(name.uri)


@given(operator_names)
def test_an_operator_name_survives_its_uri(name: OperatorName) -> None:
    assert OperatorName.parse(name.uri) == name
    with pytest.raises(CertificateError):
        InstanceName.parse(name.uri)


@given(st.text() | st.text(alphabet="spife:/aw0123456789-.i\n@%?#"))
def test_any_text_is_refused_or_is_the_uri_of_what_it_gives(text: str) -> None:
    for kind in (InstanceName, OperatorName):
        try:
            name = kind.parse(text)
        except CertificateError:
            continue
        assert name.uri == text


GOOD = INSTANCE_NAME.uri
LOOK_ALIKES = {
    "newline behind": GOOD + "\n",
    "NUL behind": GOOD + "\0",
    "space before": " " + GOOD,
    "upper-case scheme": GOOD.replace("spiffe", "SPIFFE"),
    "https": GOOD.replace("spiffe", "https"),
    "upper-case trust domain": GOOD.replace("trusted", "Trusted"),
    "no trust domain": "spiffe:///aws/123456789012/eu-central-1/i-0123456789abcdef0",
    "user": GOOD.replace("//", "//admin@"),
    "port": GOOD.replace(".internal", ".internal:443"),
    "query": GOOD + "?a=b",
    "fragment": GOOD + "#x",
    "slash behind": GOOD + "/",
    "empty segment": GOOD.replace("/aws/", "//aws/"),
    "dots": GOOD.replace("/aws/", "/aws/../aws/"),
    "percent": GOOD.replace("/aws/", "/a%77s/"),
    "Arabic digits": GOOD.replace("123456789012", "١٢٣٤٥٦٧٨٩٠١٢"),
    "Cyrillic letter": GOOD.replace("aws", "аws"),
    "full-width dot": GOOD.replace("gateway.", "gateway．"),
    "eleven digits": GOOD.replace("123456789012", "12345678901"),
    "thirteen digits": GOOD.replace("123456789012", "1234567890123"),
    "no region": GOOD.replace("/eu-central-1", ""),
    "zone for region": GOOD.replace("eu-central-1", "eu-central-1a"),
    "upper-case id": GOOD.replace("abcdef", "ABCDEF"),
    "short id": GOOD[:-11],
    "long id": GOOD + "0",
    "container id": GOOD.replace("/i-", "/mi-"),
    "one more segment": GOOD + "/i-0123456789abcdef0",
    "operator": OPERATOR_NAME.uri,
    "long trust domain": "spiffe://" + "a" * 256 + "/aws/123456789012/eu-central-1/i-0123456789abcdef0",
    "nothing": "",
}


@pytest.mark.parametrize("uri", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_b22_a_look_alike_of_a_spiffe_id_is_refused(uri: str) -> None:
    with pytest.raises(CertificateError):
        InstanceName.parse(uri)
    assert InstanceName.parse(GOOD) == INSTANCE_NAME


@pytest.mark.parametrize(
    "make",
    [
        lambda: InstanceName("td/aws", "123456789012", "eu-central-1", "i-0123456789abcdef0"),
        lambda: InstanceName("td", "123456789012/eu-central-1", "i-01234567", "x"),
        lambda: InstanceName("td", 123456789012, "eu-central-1", "i-01234567"),  # type: ignore[arg-type]  # the wrong type, on purpose
        lambda: InstanceName("", "123456789012", "eu-central-1", "i-01234567"),
        lambda: OperatorName("td", "ada/root"),
        lambda: OperatorName("td", "Ada"),
        lambda: OperatorName("td", "-ada"),
        lambda: OperatorName("td", "ada\n"),
        lambda: OperatorName("td", "a" * 64),
    ],
)
def test_parts_that_do_not_make_a_spiffe_id_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(CertificateError):
        make()


def test_server_names_are_brought_to_one_form() -> None:
    made = ServerNames.parse("Gateway.Test", "2001:0DB8::0001", "127.0.0.1", "localhost")
    assert made.alternatives == ("gateway.test", "2001:db8::1", "127.0.0.1", "localhost")
    assert made.common_name == "gateway.test"
    written = names.alternative_names(made)
    assert written.get_values_for_type(x509.DNSName) == ["gateway.test", "localhost"]
    assert [str(ip) for ip in written.get_values_for_type(x509.IPAddress)] == ["2001:db8::1", "127.0.0.1"]


@pytest.mark.parametrize(
    "wrong",
    [
        *("*", "*.gateway.test", "gateway.test.", ".gateway.test", "gateway..test", "-gateway.test", "gateway-.test"),
        *("gate_way.test", "gateway.test:8443", "https://gateway.test", "gateway.test/", "a" * 64, "", "ⓖateway.test"),
        *("1.2.3", "1.2.3.256", "01.2.3.4", "0x7f.1", "127.0.0.1/8", "fe80::1%eth0", "gateway.test\n", "gate\0way"),
        "a." * 127 + "abc",
    ],
)
def test_what_is_no_server_name_is_refused(wrong: str) -> None:
    with pytest.raises(CertificateError):
        ServerNames.parse("gateway.test", wrong)
    assert ServerNames.parse("gateway.test")


@pytest.mark.parametrize(
    "alternatives",
    [(), ("gateway.test", "gateway.test"), ("GATEWAY.test",), ("2001:0db8::1",), ("None",), (f"{'a' * 60}.test",)],
)
def test_server_names_are_canonical_by_construction(alternatives: tuple[str, ...]) -> None:
    with pytest.raises(CertificateError):
        ServerNames(alternatives)


def test_the_first_server_name_has_at_most_64_letters_as_a_common_name_does() -> None:
    assert ServerNames.parse(f"{'a' * 59}.test").common_name == f"{'a' * 59}.test"
    with pytest.raises(CertificateError):
        ServerNames.parse(f"{'a' * 60}.test")
    assert ServerNames.parse("gateway.test", f"{'a' * 60}.test")


def test_read_gives_the_name_that_was_issued() -> None:
    assert names.read(leaf("instance")) == INSTANCE_NAME
    assert names.read(leaf("operator")) == OPERATOR_NAME
    assert names.read(Crooked().make()) == INSTANCE_NAME
    with pytest.raises(CertificateError):
        names.read(leaf("server"))


def common_name(text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, text)


def uris(*texts: str) -> dict[str, object]:
    return {"extensions": ((x509.SubjectAlternativeName([x509.UniformResourceIdentifier(t) for t in texts]), False),)}


OTHER = GOOD.replace("def0", "def1")
ID = INSTANCE_NAME.instance_id
B22 = {
    "two URIs": uris(GOOD, OTHER),
    "the same URI twice": uris(GOOD, GOOD),
    "a DNS name beside the URI": {
        "extensions": (
            (x509.SubjectAlternativeName([x509.DNSName("gateway.test"), x509.UniformResourceIdentifier(GOOD)]), False),
        )
    },
    "another's URI": uris(OTHER),
    "NUL in the URI": uris(GOOD + "\0"),
    "no alternative name": {"without": (x509.SubjectAlternativeName,)},
    "two common names": {"subject": (common_name(ID), common_name("i-0000000000000000a"))},
    "NUL in the common name": {"subject": (common_name(ID + "\0.evil.test"),)},
    "an e-mail address in the subject": {
        "subject": (common_name(ID), x509.NameAttribute(NameOID.EMAIL_ADDRESS, "admin"))
    },
    "a BMPString homoglyph": {
        "subject": (x509.NameAttribute(NameOID.COMMON_NAME, ID.replace("i", "і"), _ASN1Type.BMPString),)
    },
    "the right name as BMPString": {"subject": (x509.NameAttribute(NameOID.COMMON_NAME, ID, _ASN1Type.BMPString),)},
    "an empty subject": {"subject": ()},
    "an operator's name": uris(OPERATOR_NAME.uri),
}


@pytest.mark.parametrize("wrong", B22.values(), ids=B22)
def test_b22_a_certificate_that_could_be_read_in_two_ways_names_nobody(wrong: dict[str, object]) -> None:
    with pytest.raises(CertificateError):
        names.read(Crooked().but(**wrong))
