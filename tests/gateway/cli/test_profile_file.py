"""Profiles on disk: two forms of one document, and every fault with the line that it is in."""

import json
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import profile_file, profile_toml
from gateway.cli.failure import Failure
from gateway.core.profile import normal

TOML = """\
# What web servers may have.
name = "web"

[attestation]
images = [
  "ami-0123456789abcdef0",  # the good one
  "ami-0123456789abcdef1",
]

[[grants]]
name = "reports"
role = "arn:aws:iam::111122223333:role/reader"
region = "eu-central-1"
duration = "1h"
tags = { team = "${instance.tags.team}", "cost:center" = "012" }
policy = '''
{"Version": "2012-10-17",
 "Statement": [
  {"Effect": "Allow",
   "Action": ["s3:GetObject",
              "s3:ListBucket"],
   "Resource": "*"}
]}
'''

[grants.conditions]
source_addresses = ["10.0.0.0/8",
                    "192.0.2.0/24"]
hours.start = "08:00"
hours.end = "18:00"

[[grants]]
name = "queue"
role = "arn:aws:iam::111122223333:role/reader"
region = "eu-central-1"
[grants.policy]
Version = "2012-10-17"
[[grants.policy.Statement]]
Effect = "Allow"
Action = "sqs:*"
Resource = "*"
"""

YAML = """\
# What web servers may have.
name: web
attestation:
  images:
    - ami-0123456789abcdef0
    - ami-0123456789abcdef1
grants:
  - name: reports
    role: arn:aws:iam::111122223333:role/reader
    region: eu-central-1
    duration: 1h
    tags:
      team: ${instance.tags.team}
      "cost:center": "012"
    policy: |
      {"Version": "2012-10-17",
       "Statement": [
        {"Effect": "Allow",
         "Action": ["s3:GetObject",
                    "s3:ListBucket"],
         "Resource": "*"}
      ]}
    conditions:
      source_addresses:
        - 10.0.0.0/8
        - 192.0.2.0/24
      hours: {start: "08:00", end: "18:00"}
  - name: queue
    role: arn:aws:iam::111122223333:role/reader
    region: eu-central-1
    policy:
      Version: "2012-10-17"
      Statement:
        - Effect: Allow
          Action: sqs:*
          Resource: "*"
"""
FORMS = {"toml": TOML, "yaml": YAML}


def written(folder: Path, text: str | bytes, suffix: str = "toml") -> Path:
    path = folder / f"web.{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def faults(folder: Path, text: str | bytes, suffix: str = "toml") -> list[str]:
    """Its faults, without the folder; asserted to be a Failure as commands tell it."""
    path = written(folder, text, suffix)
    with pytest.raises(Failure) as caught:
        profile_file.read(path)
    failure = caught.value
    assert failure.code == "profile_invalid"
    count = len(failure.faults)
    assert str(failure) == f"{path} has {count} fault{'s' if count > 1 else ''}"
    assert all(fault.startswith(f"{path}:") for fault in failure.faults)
    return [fault.removeprefix(f"{folder}/") for fault in failure.faults]


def test_both_forms_are_one_document(tmp_path: Path) -> None:
    one, other, third = (
        profile_file.read(written(tmp_path, text, suffix))
        for suffix, text in (("toml", TOML), ("yaml", YAML), ("yml", YAML))
    )
    assert one.name == other.name == "web"
    assert normal(one.document) == normal(other.document) == normal(third.document)
    assert one.document["grants"][0]["tags"] == {"team": "${instance.tags.team}", "cost:center": "012"}
    assert json.loads(json.dumps(one.document)) == one.document


def line_of(text: str, part: str, nth: int = 0) -> int:
    return [i for i, line in enumerate(text.splitlines(), 1) if part in line][nth]


# What is changed in both files, and the fault that it makes, in the line of the change.
CHANGES = [
    ("web", "Web", "name: does not have the required form"),
    ("ami-0123456789abcdef1", "ami-x", "attestation.images[1]: does not have the required form"),
    ("1h", "13h", "grants[0].duration: sessions last from 15m to 12h"),
    ("cost:center", "aws:center", "grants[0].tags.aws:center: is no key that AWS takes, or is kept for AWS or the "
     "gateway"),
    ("${instance.tags.team}", "${instance.name}", "grants[0].tags.team: ${instance.name} is none of our templates"),
    ("2012-10-17", "2008-10-17", 'grants[0].policy: Version: must be "2012-10-17"'),
    ('"Allow"', '"allow"', 'grants[0].policy: Statement[0].Effect: must be "Allow" or "Deny"'),
    ('"s3:ListBucket"', '"s3"', "grants[0].policy: Statement[0].Action[1]: must be service:Action or *"),
    ('"*"}', '"arn:aws:s3:::${x}"}', "grants[0].policy: Statement[0].Resource: ${x} is none of our templates, and none "
     "of IAM's variables"),
    ("192.0.2.0/24", "192.0.2.1/24", "grants[0].conditions.source_addresses[1]: must be a network like 10.0.0.0/8, "
     "without host bits"),
    ("08:00", "8:00", "grants[0].conditions.hours.start: does not have the required form"),
    ("queue", "reports", "grants[1].name: stands twice"),
    ("sqs:*", "sqs", "grants[1].policy: Statement[0].Action: must be service:Action or *"),
]  # fmt: skip


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(("part", "instead", "fault"), CHANGES, ids=[fault for *_, fault in CHANGES])
def test_a_fault_is_told_with_its_line(tmp_path: Path, suffix: str, part: str, instead: str, fault: str) -> None:
    text = FORMS[suffix].replace("# What web", "# What the")
    assert faults(tmp_path, text.replace(part, instead, 1), suffix) == [f"web.{suffix}:{line_of(text, part)}: {fault}"]


@pytest.mark.parametrize("suffix", FORMS)
def test_all_faults_are_told_at_once_by_line(tmp_path: Path, suffix: str) -> None:
    text = FORMS[suffix].replace('"Allow"', '"allow"').replace("1h", "13h").replace("queue", "Queue")
    found = faults(tmp_path, text, suffix)
    lines = [int(each.split(":")[1]) for each in found]
    assert lines == sorted(lines)
    wrong = ["13h", '"allow"', "Queue"]
    assert lines[:3] == [line_of(text, each) for each in wrong]


@pytest.mark.parametrize(
    ("suffix", "line", "fault"),
    [
        ("toml", "odd = 1", "odd: is not known here"),
        ("toml", "at = 2026-01-01", "at: is a date or a time: put it in quotes"),
        ("toml", "at = 08:00:00", "at: is a date or a time: put it in quotes"),
        ("toml", "x.y = [1, {z = nan}]", "x.y[1].z: is no number that JSON has"),
        ("toml", "x = ", "Invalid value"),
        ("toml", 'name = "other"', "Cannot overwrite a value"),
        ("yaml", "odd: x", "odd: is not known here"),
        ("yaml", "name: other", "name: stands twice"),
        ("yaml", "upstream: no", "upstream: no is no text in YAML: put it in quotes"),
        ("yaml", "upstream: 012", "upstream: 012 is no text in YAML: put it in quotes"),
        ("yaml", "upstream: 12", "upstream: must be a string, which in YAML is put in quotes"),
        ("yaml", "upstream: true", "upstream: must be a string, which in YAML is put in quotes"),
        ("yaml", "upstream: 1_000", "upstream: 1_000 is no text in YAML: put it in quotes"),
        ("yaml", "upstream: 18:00", "upstream: 18:00 is no text in YAML: put it in quotes"),
        ("yaml", "upstream: 2026-01-01", "upstream: 2026-01-01 is no text in YAML: put it in quotes"),
        ("yaml", "upstream: .inf", "upstream: .inf is no text in YAML: put it in quotes"),
        ("yaml", "upstream: =", "upstream: = is no text in YAML: put it in quotes"),
        ("yaml", "upstream:", "upstream: has no value: leave it out"),
        ("yaml", "upstream: ~", "upstream: has no value: leave it out"),
        ("yaml", "no: x", "no: is no text in YAML: put the key in quotes"),
        ("yaml", "[a]: x", "?: is no text in YAML: put the key in quotes"),
        ("yaml", "<<: {}", "<<: is no text in YAML: put the key in quotes"),
        ("yaml", "upstream: &a main", "anchors and aliases are not taken: write it out"),
        ("yaml", "upstream: *a", "anchors and aliases are not taken: write it out"),
        ("yaml", "upstream: !!str 1", "tags (!…) are not taken"),
        ("yaml", "upstream: !!python/object/apply:os.system [x]", "tags (!…) are not taken"),
        ("yaml", "upstream: 'x", None),
        ("yaml", "upstream: x: y", "mapping values are not allowed here"),
        ("yaml", "\tupstream: x", "found character '\\t' that cannot start any token"),
        ("yaml", "--- x", None),
        ("yaml", "upstream: \x07", "has a character that YAML does not take"),
    ],
)  # fmt: skip
def test_what_is_odd_in_the_file_itself(tmp_path: Path, suffix: str, line: str, fault: str | None) -> None:
    first, _, rest = FORMS[suffix].partition("\n")
    text = f"{first}\n{rest.partition(chr(10))[0]}\n{line}\n{rest.partition(chr(10))[2]}"
    found = faults(tmp_path, text, suffix)
    assert fault is None or f"web.{suffix}:3: {fault}" in found, found


@pytest.mark.parametrize(
    ("suffix", "raw", "fault"),
    [
        ("toml", "", "1: name: is missing"),
        ("toml", b'\nname = "\xff"', "2: is not text in UTF-8"),
        ("toml", "x = " + "9" * 5000, "1: "),
        ("toml", "x = " + "[" * 5000, "1: "),
        ("toml", 'name = "web', "1: "),
        ("yaml", "", "1: the file is empty"),
        ("yaml", "# nothing\n", "1: the file is empty"),
        ("yaml", "\n- a\n", "2: must be an object: begin with its name"),
        ("yaml", "\nweb\n", "2: must be an object: begin with its name"),
        ("yaml", "a: " + "[" * 5000 + "]" * 5000, "1: is nested too deeply"),
        ("yaml", "a: &a [x]\nb: [*a, *a, *a]\n", "1: anchors and aliases are not taken: write it out"),
    ],
)
def test_what_is_no_profile_at_all(tmp_path: Path, suffix: str, raw: str | bytes, fault: str) -> None:
    assert any(each.startswith(f"web.{suffix}:{fault}") for each in faults(tmp_path, raw, suffix))


@pytest.mark.parametrize("suffix", ["json", "txt", "", "TOML"])
def test_a_file_is_called_after_what_it_holds(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(Failure, match=r"is neither \.toml nor \.yaml nor \.yml"):
        profile_file.read(written(tmp_path, TOML, suffix))


def test_a_file_has_a_sensible_size(tmp_path: Path) -> None:
    assert profile_file.read(written(tmp_path, TOML + "#" * (64 * 1024 - len(TOML))))
    with pytest.raises(Failure, match="is larger than 64 KiB"):
        profile_file.read(written(tmp_path, TOML + "#" * (64 * 1024 - len(TOML) + 1)))
    for absent in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(Failure):
            profile_file.read(absent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("policy = '{\"Version\": 1}'", 1),
        ('policy = "{\\"Version\\": 1}"', 1),
        ('policy = """\n\n{"Version": 1}"""', 3),
        ("policy = '''{\n\"Version\":\n1}'''", 2),
        ("policy = '''\r\n{\r\n\"Version\":\r\n1}'''", 3),
        ("policy = '''\n{\n\t\"Version\": 1}'''", 3),
        ("policy = '''\n{\n\n\"Version\": 1,}'''", 4),  # no JSON: where it ends to be
        ("policy = ''", 1),
        ("policy = '''\n{\n\"Version\": " + "9" * 5000 + "}'''", 1),
    ],
)
def test_the_lines_of_a_policy_in_toml(tmp_path: Path, text: str, expected: int) -> None:
    head = '[[grants]]\nname = "a"\n'
    found = [each for each in faults(tmp_path, head + text) if "JSON" in each or "Version:" in each]
    assert found[0].startswith(f"web.toml:{expected + 2}: grants[0].policy: "), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("policy: |\n  {\n  \"Version\": 1}", 3),
        ("policy: |-\n\n  {\"Version\": 1}", 3),
        ("policy: '{\"Version\": 1}'", 1),
        ('policy:\n  "{\\"Version\\": 1}"', 2),
        ("policy:\n  {\n  \"Version\":\n   1}", 3),
        ("policy:\n  Version: \"1\"", 2),
        ("policy: |\n  {\n  \"Version\": 1,}", 3),
    ],
)  # fmt: skip
def test_the_lines_of_a_policy_in_yaml(tmp_path: Path, text: str, expected: int) -> None:
    head = "grants:\n  - name: a\n"
    found = [
        each
        for each in faults(tmp_path, head + textwrap.indent(text, "    "), "yaml")
        if "JSON" in each or "Version:" in each
    ]
    assert found[0].startswith(f"web.yaml:{expected + 2}: grants[0].policy: "), found


EVERY_FORM = '''\
a = 1 # [x]
"b.c" = 'x # y'
[d] # [[e]]
f.g."h i" = """x
] = \\""" y""""
j = [ # k
  1, [2,
  3], { l = "}", m.n = 4 }, \'\'\'x''\'\'\', # o
]
p = 2026-01-01 08:00:00 # q
[[r]]
[[r.s]]
t = 1
[[r.s]]
t = 2
[[r]]
[r.u."v.w"]
x = { y = [] , z = {} }
[aa.bb.cc]
dd = true
[aa]
ee = -1.5e3
'''
LINES = {
    "a": 1, "b.c": 2, "d": 3, "d.f.g.h i": 4, "d.j": 6, "d.j[0]": 7, "d.j[1][0]": 7, "d.j[1][1]": 8, "d.j[2].l": 8,
    "d.j[2].m.n": 8, "d.j[3]": 8, "d.p": 10, "r[0]": 11, "r[0].s[0]": 12, "r[0].s[0].t": 13, "r[0].s[1].t": 15,
    "r[1]": 16, "r[1].u.v.w": 17, "r[1].u.v.w.x": 18, "r[1].u.v.w.x.y": 18, "aa.bb.cc": 19, "aa.bb.cc.dd": 20,
    "aa.ee": 22, "absent": 1, "r[1].u.absent": 17, "d.j[9]": 6,
}  # fmt: skip


def test_the_scanner_knows_every_form_of_toml() -> None:
    """Each value of the document has its place, in its line."""
    assert tomllib.loads(EVERY_FORM)
    scanned = profile_toml._Scanner(EVERY_FORM).document()
    assert {path: scanned.of(f"{path}: x").line for path in LINES} == LINES

    def same(value: Any, place: Any) -> None:
        if isinstance(value, dict):
            assert set(value) == set(place.inner)
            for key in value:
                same(value[key], place.inner[key])
        elif isinstance(value, list):
            assert list(place.inner) == [f"[{i}]" for i in range(len(value))]
            for i, item in enumerate(value):
                same(item, place.inner[f"[{i}]"])
        else:
            assert place.inner == {}

    same(tomllib.loads(EVERY_FORM), scanned)
