"""iam-rolesanywhere-session: signs with the instance's certificate, and has boto3 use what it gets. As by_boto3."""

import os
from pathlib import Path

from iam_rolesanywhere_session import IAMRolesAnywhereSession  # type: ignore[import-not-found]  # in .clients-venv

from tests.clients.programs.by_boto3 import Storage, answer

if __name__ == "__main__":
    held = Path(os.environ["HELD"])
    holder = IAMRolesAnywhereSession(
        profile_arn=os.environ["PROFILE_ARN"],
        role_arn=os.environ["ROLE_ARN"],
        trust_anchor_arn=os.environ["TRUST_ANCHOR_ARN"],
        certificate=str(held / "leaf.pem"),
        private_key=str(held / "key.pem"),
        endpoint=os.environ["GATEWAY"],
        verify=str(held / "ca.pem"),
        region=os.environ["AWS_REGION"],
    )
    answer(Storage(holder.get_session()), Exception)  # its own errors have no class in common
