"""Reads a store's file, and nothing else: is every certificate on record, and was every ticket used by one key?"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core import verification
from tests.end_to_end.applicant import Applicant

# One certificate and one ticket a row, beside the log's records of both.
ISSUED = "SELECT serial, subject, state, key_sha256, sha256, der FROM certificate WHERE kind = 'instance'"
TICKETS = "SELECT id, state, key_sha256, serial, redeemed_by FROM ticket"


def faults(store: sqlite3.Connection, crowd: Sequence[Applicant]) -> list[str]:
    """What is wrong, if anything, now that everybody in the crowd holds a certificate."""
    found = [str(line) for (line,) in store.execute("PRAGMA integrity_check") if line != "ok"]
    lines = store.execute("SELECT line, hash FROM audit_record ORDER BY chain, seq").fetchall()
    found += verification.verify(lines).faults
    enrolments = [each for each in map(json.loads, [line for line, _ in lines]) if each["name"] == ENROLL]
    decided = Counter(each["request_id"] for each in enrolments if each["kind"] == "decision")
    found += [f"request {each}: {count} decisions" for each, count in decided.items() if count > 1]
    found += [f"request {each['request_id']}: no decision" for each in enrolments if not decided[each["request_id"]]]

    gave = [each for each in enrolments if each["kind"] == "outcome" and each["allowed"]]
    made = {(e["facts"]["serial"], e["facts"]["certificate_sha256"]) for e in gave if e["reason"] != "given_again"}
    issued = {row[0]: row for row in store.execute(ISSUED)}
    stored = {(serial, hashlib.sha256(der).hexdigest()) for serial, *_, der in issued.values()}
    found += [f"certificate {serial}: no record of it" for serial, _ in stored - made]
    found += [f"certificate {serial}: on record, and not here" for serial, _ in made - stored]
    active = Counter(subject for _, subject, state, *_ in issued.values() if state == "active")
    found += [f"{subject}: {count} certificates in force" for subject, count in active.items() if count > 1]

    uses: dict[str, set[str]] = {}
    for record in gave:
        uses.setdefault(record["facts"]["ticket"], set()).add(record["facts"]["serial"])
    tickets = {row[0]: row for row in store.execute(TICKETS)}
    for applicant in crowd:
        id_, state, key, serial, by = tickets[applicant.ticket["id"]]
        if state != "redeemed" or uses.get(id_) != {serial} or key != applicant.key_sha256:
            found.append(f"ticket {id_}: {state}, by another key, or for more than one certificate")
        row = issued.get(serial)
        if row is None or {der(pem) for pem in applicant.certificates} != {row[-1]}:
            found.append(f"ticket {id_}: the certificate is not the one that its user holds")
        elif row[1:4] != (by, "active", key) or not by.endswith(f"/{applicant.launched.id}"):
            found.append(f"ticket {id_}: the certificate is another's, or not in force")
    return found


ENROLL = "instance:certificate:enroll"


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
