"""Ada, an operator: what she asks for is signed with her key."""

from dataclasses import replace

from pydantic import SecretStr

from services.cli.asking import Asking
from shared.audit import Request, append, subject_of_batch
from shared.operators import OperatorKey, Operators
from shared.records import Batch
from shared.stage import Resources
from shared.store import Store
from tests.keys import AUTHENTICATOR, OPERATOR_KEY, OPERATORS


def never_asked() -> str:
    """For a key without a passphrase."""
    raise AssertionError("nobody has to ask for a passphrase")


def ada(resources: Resources) -> Asking:
    """Her commands on a system, whose settings have no operator's key."""
    key = SecretStr(OPERATOR_KEY)
    settings = resources.settings.model_copy(update={"operator_key": key})
    return Asking(replace(resources, settings=settings))


def signed_reference(batch: Batch, store: Store) -> Batch:
    """The batch as one that Ada has set as the reference; to be recorded so."""
    request = Request(
        "reference set", batch.pipeline, batch.trace_id, subject_of_batch(batch), "a test"
    )
    key = OperatorKey.read(SecretStr(OPERATOR_KEY), never_asked)
    entry = append(request, store, key, Operators(OPERATORS))
    return batch.model_copy(update={"as_reference": True, "request": entry.number})


def set_as_reference(sequence: int, store: Store) -> None:
    """Make a batch that is in the store one that Ada has set as the reference."""
    batch = store.newest(Batch, {"sequence": sequence}, "sequence")
    assert batch
    batches = store.collection(Batch)
    document = batches.find_one({"_id": batch.id})
    assert document
    signed = signed_reference(batch, store)
    marks = {"as_reference": True, "request": signed.request}
    macs = AUTHENTICATOR.macs(batches.name, document | marks)
    batches.update_one({"_id": batch.id}, {"$set": marks | macs})
