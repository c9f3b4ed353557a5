"""Flower's configuration, read by `flower --conf`: who may log in, what is shown, what is kept.

FLOWER_PASSWORD_FILE names the file that holds the password of the user `trimtab`. Flower keeps what
it has seen in memory only: its file would be a pickle, and the history is in the store.
"""

import os
import sys
from contextlib import suppress
from logging import ERROR, getLogger
from pathlib import Path

from redis.exceptions import RedisError

from shared.broker import IN_CLUSTER, Broker
from shared.celery_app import app

USER = "trimtab"


def _password() -> str:
    path = os.environ.get("FLOWER_PASSWORD_FILE", "")
    try:
        password = Path(path).read_text(encoding="utf-8").strip() if path else ""
    except OSError as error:
        sys.exit(f"trimtab: FLOWER_PASSWORD_FILE: cannot read {path}: {error.strerror}")
    if not password:
        sys.exit("trimtab: FLOWER_PASSWORD_FILE has to name a file that holds Flower's password")
    return password


def _refuse_cluster() -> None:
    with suppress(RedisError):  # Flower waits for a broker that is away
        if Broker(app).is_cluster():
            sys.exit(f"trimtab: {IN_CLUSTER}")


_refuse_cluster()
basic_auth = [f"{USER}:{_password()}"]
enable_events = False  # workers send their events unasked, and Flower may ask nobody
# It would say of each worker that it may not be asked.
getLogger("flower.inspector").setLevel(ERROR)
tasks_columns = "name,kwargs,state,received,runtime,worker"
max_tasks = 10_000
purge_offline_workers = 86_400
