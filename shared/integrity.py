"""Whether the models on record are all there: who can delete records could bring an old one back.

A record that was altered is noticed by its MAC wherever it is read. One that is gone is noticed
here, by its number and by the records that name it.
"""

from collections.abc import Iterator

from shared.records import ModelVersion, Publication
from shared.store import Store


def missing_models(pipeline: str, store: Store) -> Iterator[str]:
    """What is missing of a pipeline, in sentences: versions with a later one beside them, and those
    that a reference or a commit is made of.

    Raises:
        Unauthentic: a record that is looked at was not written by this system.
    """
    query = {"pipeline": pipeline}
    store.champion(pipeline)  # reads the later versions too
    newest = store.newest(ModelVersion, query, "version")
    last = newest.version if newest else 0
    documents = store.collection(ModelVersion).find(query, {"_id": 0, "version": 1}).sort("version")
    if [document["version"] for document in documents] != list(range(1, last + 1)):
        yield (
            f"{pipeline}: the store needs exactly one model record for each version from v1 to "
            f"v{last}, and it has others. Restore the store from a backup"
        )
    reference = store.reference(pipeline)
    published = store.newest(Publication, query, "model_version")
    for what, version in (
        ("reference", reference.model_version if reference else 0),
        ("newest commit", published.model_version if published else 0),
    ):
        if version > last:
            yield (
                f"{pipeline}: the {what} is of model v{version}, and the newest model record is "
                f"v{last}. Records were removed; restore the store from a backup"
            )
