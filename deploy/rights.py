"""Writes what `shared/rights.py` says into the files that compose and Kubernetes mount.

`python deploy/rights.py`, or `make rights`. `tests/deploy/test_rights.py` fails if they are stale.
"""

import json
from pathlib import Path
from typing import Final

from shared.rights import BROKER_USERS, STORE_USERS, broker_rules, store_rights

ROOT: Final = Path(__file__).parents[1]
PREFIX: Final = "PREFIX"
"""Stands for what every key begins with; deploy/make-secrets.sh puts it in."""


def files() -> dict[Path, str]:
    """File -> what it holds."""
    return {
        ROOT / "deploy" / "redis" / "rights.acl": "".join(
            f"{service} {broker_rules(service, PREFIX)}\n" for service in BROKER_USERS
        ),
        ROOT / "deploy" / "mongo" / "rights.json": json.dumps(
            {service: store_rights(service) for service in STORE_USERS}, indent=1
        )
        + "\n",
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
