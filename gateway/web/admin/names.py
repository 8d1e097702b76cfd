"""What the variables of a path may look like where the path is kept for others to see.

A secret that was pasted where a name belongs names nothing, so nothing is done with it: but a request that waits for a
second person is kept and recorded with its path. The forms are those of what there is, and no wider than need be: no
AWS secret key has one of them, and no ticket has that of an id.
"""

import re
from collections.abc import Mapping

from gateway.core.errors import Refusal
from gateway.wire.messages import NAME

# Of an EC2 instance, or of a machine of a trust anchor. Its common name may have capitals: then it goes by its path.
_MACHINE = rf"(aws/[0-9]{{12}}/[a-z0-9-]{{1,32}}/)?[a-z0-9][a-z0-9._-]{{0,39}}|anchor/{NAME}/[A-Za-z0-9._-]{{2,64}}"
# As the gateway writes it, as OpenSSL does, and of a certificate of a trust anchor (flows.trust_anchor).
_SERIAL = rf"[0-9A-Fa-f]{{1,42}}|[0-9A-Fa-f]{{2}}(:[0-9A-Fa-f]{{2}}){{0,20}}|anchor:{NAME}:[0-9a-f]+:[0-9a-f]{{16}}"
# A lease may go by its access key id.
_FORMS = {"id": r"[a-z0-9-]{1,40}|A[KS]IA[A-Z0-9]{12,124}", "serial": _SERIAL, "named": _MACHINE}


def demand_names(path: Mapping[str, str]) -> None:
    """Raises Refusal `malformed_request`, which does not repeat what is there."""
    for variable, value in path.items():
        if not re.fullmatch(_FORMS.get(variable, NAME), value):
            raise Refusal("malformed_request", f"path: what stands for <{variable}> has not the form of one")
