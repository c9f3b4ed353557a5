"""Publishing to real repositories: once for each model, whatever stands or happens there."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.publisher import repository as module
from services.publisher.repository import Commit, ModelRepository, Published
from shared.failures import WillNotPass, WillPass
from tests.integration.publisher.bare import ANOTHER_COMMIT, Bare, git

BYTES = bytes(range(256)) * 4 + b"\r\n$Id$\r\n"


def commit_of(version: int = 1, pipeline: str = "air_quality", run: str = "a" * 32) -> Commit:
    return Commit(
        pipeline=pipeline,
        version=version,
        run=run,
        files={"model.joblib": BYTES + b"%d" % version, "README.md": b"# Card\n"},
        model_file="model.joblib",
        subject=f"Publish {pipeline} v{version}: why",
        body="mae 6.4",
        at=datetime(2026, 1, 1, 12, 30, version, tzinfo=UTC),
        committer="Trimtab <trimtab@localhost>",
    )


def publish(bare: Bare, commit: Commit, cache: str = "cache", branch: str = "main") -> Published:
    folder = bare.path.parent / cache
    return ModelRepository(str(bare.path), branch, folder, None, None).publish(commit)


def said(published: Published) -> tuple[str, bool]:
    """The commit, and whether it was there before; its tag may be new."""
    return published.commit, published.already_there


def cache_of(bare: Bare, cache: str = "cache") -> Path:
    (folder,) = (path for path in (bare.path.parent / cache).iterdir() if path.is_dir())
    return folder


def test_the_first_model_on_an_empty_repository(bare: Bare) -> None:
    published = publish(bare, commit_of())
    assert not published.already_there
    assert bare.refs() == {
        "refs/heads/main": published.commit,
        "refs/tags/air_quality/v1": published.commit,
    }
    assert bare.files() == commit_of().files
    layout = "--format=%an <%ae> %cn <%ce> %aI %cI %P%n%B"
    head, message = bare.git("log", "-1", layout, "main").split("\n", 1)
    who, when = "Trimtab <trimtab@localhost>", "2026-01-01T12:30:01+00:00"
    assert head.strip() == f"{who} {who} {when} {when}"
    assert message == commit_of().message.strip()
    trailers = git(bare.path, "interpret-trailers", "--parse", stdin=message.encode())
    assert trailers.decode() == f"Trimtab-Model: air_quality/v1\nTrimtab-Run: {'a' * 32}\n"
    bare.git("fsck", "--strict")


def test_a_missing_branch_begins_without_the_others(bare: Bare) -> None:
    bare.commit({"index.html": b"site"}, branch="pages")
    publish(bare, commit_of(), branch="models/air")
    assert bare.subjects("models/air") == ["Publish air_quality v1: why"]
    assert bare.files("pages") == {"index.html": b"site"}


def test_other_files_stay_and_files_that_a_model_lacks_go(bare: Bare) -> None:
    others = {".gitattributes": b"* text=auto ident\n", "air/notes.txt": b"a\r\nb\r\n"}
    bare.commit(others | {"air/drift_report.json": b"{}", "air/README.md": b"old"})
    files = {"air/README.md": BYTES, "air/drift_report.json": None}
    publish(bare, replace(commit_of(), files=files))
    assert bare.files() == others | {"air/README.md": BYTES}


def test_the_same_model_twice_is_one_commit(bare: Bare) -> None:
    first = publish(bare, commit_of())
    again = publish(bare, commit_of())
    elsewhere = publish(bare, commit_of(), cache="another machine")
    assert again == elsewhere == Published(first.commit, already_there=True)
    assert len(bare.subjects()) == 1


def test_versions_follow_each_other_and_each_keeps_its_tag(bare: Bare) -> None:
    commits = [publish(bare, commit_of(version)).commit for version in (1, 2, 3)]
    assert bare.git("rev-list", "--reverse", "main").splitlines() == commits
    assert bare.refs()["refs/tags/air_quality/v2"] == commits[1]
    assert bare.files()["model.joblib"] == BYTES + b"3"


def test_the_same_inputs_give_the_same_commit(bare: Bare, tmp_path: Path) -> None:
    other = Bare.make(tmp_path / "other.git")
    assert publish(bare, commit_of()) == publish(other, commit_of(), cache="other")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "x\n\nTrimtab-Model: air_quality/v1\n  folded\tvalue\nTrimtab-Run: \u2028\x0b\x1e\r\n",
        "x\n\nTrimtab-Model: a\nTrimtab-Model: b\tc\nTrimtab-Run:",
        f"We dropped this:\n\nTrimtab-Model: air_quality/v1\nTrimtab-Run: {'a' * 32}\n\nSorry",
    ],
)
def test_what_others_write_in_their_messages_means_nothing(bare: Bare, message: str) -> None:
    bare.commit({"other": b"1"}, message=message)
    assert not publish(bare, commit_of()).already_there
    assert publish(bare, commit_of(), cache="new").already_there


class TestForgedTrailers:
    """A commit of somebody else says that it is our model. Who can push can also read the trailers
    of an earlier push, and a run's id is no secret."""

    @pytest.mark.parametrize(
        "files",
        [
            {"model.joblib": b"theirs"},
            {**commit_of().files, "README.md": b"Load this model from elsewhere."},
            {"README.md": b"# Card\n"},
            {**commit_of().files, "air/model.joblib": b"one more"},
        ],
        ids=["another model", "another card", "no model", "a file that the model does not have"],
    )
    def test_without_the_models_files_it_is_not_taken_for_the_model(
        self, bare: Bare, files: dict[str, bytes]
    ) -> None:
        ours = replace(commit_of(), files={**commit_of().files, "air/model.joblib": None})
        bare.commit(files, message=ours.message)
        forged = bare.refs()["refs/heads/main"]
        published = publish(bare, ours)
        assert not published.already_there
        assert bare.refs()["refs/tags/air_quality/v1"] == published.commit != forged
        assert bare.files() == commit_of().files

    def test_under_our_tag_it_is_refused(self, bare: Bare) -> None:
        bare.commit({"model.joblib": b"theirs"}, message=commit_of().message)
        bare.git("tag", "air_quality/v1", "main")
        before = bare.refs()
        with pytest.raises(WillNotPass, match=r"tag air_quality/v1 stands on .* delete the tag"):
            publish(bare, commit_of())
        assert bare.refs() == before

    def test_on_top_of_the_model_it_hides_nothing(self, bare: Bare) -> None:
        first = publish(bare, commit_of())
        bare.commit({"model.joblib": b"theirs"}, message=commit_of().message)
        assert said(publish(bare, commit_of())) == (first.commit, True)

    def test_an_earlier_version_on_top_does_not_hide_a_model_that_is_further_back(
        self, bare: Bare
    ) -> None:
        second = publish(bare, commit_of(2))
        bare.commit({"other": b"1"}, times=60)
        bare.commit({"other": b"2"}, message=commit_of(1).message)
        assert said(publish(bare, commit_of(2), cache="new")) == (second.commit, True)

    @pytest.mark.parametrize("version", ["\u00b2", "9" * 5_000, "\u0661", "-1", "0x1"])
    def test_a_version_that_is_no_number_means_nothing(self, bare: Bare, version: str) -> None:
        message = f"x\n\nTrimtab-Model: air_quality/v{version}\nTrimtab-Run: {'a' * 32}\n"
        bare.commit({"other": b"1"}, message=message)
        assert not publish(bare, commit_of()).already_there

    def test_a_model_that_is_described_in_other_words_now_is_still_there(self, bare: Bare) -> None:
        """As after an upgrade between a push and the publisher's record of it."""
        first = publish(bare, commit_of())
        reworded = replace(commit_of(), files={**commit_of().files, "README.md": b"# New card\n"})
        assert said(publish(bare, reworded)) == (first.commit, True)


def test_the_cache_is_kept_and_fetches_only_what_is_new(bare: Bare) -> None:
    publish(bare, commit_of(1))
    objects = set((cache_of(bare) / "objects").rglob("*.pack"))
    bare.commit({"other": b"1"})
    publish(bare, commit_of(2))
    assert objects <= set((cache_of(bare) / "objects").rglob("*.pack"))
    assert bare.subjects() == [
        "Publish air_quality v2: why",
        "Other",
        "Publish air_quality v1: why",
    ]


def test_a_cache_that_has_grown_large_is_begun_anew(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_PACKS", 1)
    publish(bare, commit_of(1))
    folder = cache_of(bare)
    publish(bare, commit_of(2))
    assert not folder.exists()
    publish(bare, commit_of(3))
    assert len(bare.subjects()) == 3


class TestOlderThanTheCache:
    """Commits further back than the shallow window of newest commits."""

    def test_a_model_that_is_there_is_found(self, bare: Bare) -> None:
        first = publish(bare, commit_of())
        bare.commit({"other": b"1"}, times=60)
        assert said(publish(bare, commit_of(), cache="new")) == (first.commit, True)
        assert len(bare.subjects()) == 61

    def test_without_its_tag_too(self, bare: Bare) -> None:
        first = publish(bare, commit_of())
        bare.commit({"other": b"1"}, times=60)
        bare.git("tag", "--delete", "air_quality/v1")
        assert said(publish(bare, commit_of(), cache="new")) == (first.commit, True)
        assert bare.refs()["refs/tags/air_quality/v1"] == first.commit
        assert len(bare.subjects()) == 61

    def test_a_model_that_is_not_there_is_published(self, bare: Bare) -> None:
        bare.commit({"other": b"1"}, times=60)
        assert not publish(bare, commit_of()).already_there
        assert len(bare.subjects()) == 61
        assert set(bare.files()) == {"other", "model.joblib", "README.md"}

    def test_an_earlier_version_among_the_newest_saves_fetching_the_rest(self, bare: Bare) -> None:
        bare.commit({"other": b"1"}, times=60)
        publish(bare, commit_of(1))
        publish(bare, commit_of(2), cache="new")
        assert (cache_of(bare, "new") / "shallow").exists()
        assert len(git(cache_of(bare, "new"), "rev-list", "refs/trimtab/made").split()) == 51
        assert len(bare.subjects()) == 62

    def test_a_later_version_among_the_newest_does_not(self, bare: Bare) -> None:
        second = publish(bare, commit_of(2))
        bare.commit({"other": b"1"}, times=60)
        publish(bare, commit_of(3))
        bare.git("tag", "--delete", "air_quality/v2")
        assert said(publish(bare, commit_of(2), cache="new")) == (second.commit, True)


class TestTooLate:
    """A model that was refused, and is sent again when its successor is on the branch."""

    def test_it_does_not_take_the_successors_place(self, bare: Bare) -> None:
        publish(bare, commit_of(1))
        third = publish(bare, commit_of(3))
        late = replace(commit_of(2), successors={"air_quality/v3": "a" * 32})
        with pytest.raises(WillNotPass, match=r"air_quality/v3, which took the place of .*/v2"):
            publish(bare, late)
        assert bare.refs()["refs/heads/main"] == third.commit
        assert "refs/tags/air_quality/v2" not in bare.refs()

    def test_its_own_commit_before_the_successors_counts(self, bare: Bare) -> None:
        second = publish(bare, commit_of(2))
        publish(bare, commit_of(3))
        again = replace(commit_of(2), successors={"air_quality/v3": "a" * 32})
        assert publish(bare, again) == Published(second.commit, True)

    def test_a_later_version_of_another_system_is_no_successor(self, bare: Bare) -> None:
        publish(bare, commit_of(3, run="b" * 32))
        ours = replace(commit_of(2), successors={"air_quality/v3": "a" * 32})
        assert not publish(bare, ours).already_there


def test_contents_of_files_stay_at_a_host_that_can_leave_them_out(bare: Bare) -> None:
    bare.git("config", "uploadpack.allowFilter", "true")
    for version in (1, 2, 3):
        large = replace(commit_of(version), files={"model.joblib": os.urandom(500_000)})
        publish(bare, large)
    publish(bare, replace(commit_of(4), files={"model.joblib": b"small"}), cache="new")
    sizes = [path.stat().st_size for path in cache_of(bare, "new").rglob("*") if path.is_file()]
    assert sum(sizes) < 100_000
    assert bare.files() == {"model.joblib": b"small"}
    bare.git("fsck", "--strict")


class TestFasterWriters:
    """The branch moves while a push is under way."""

    def test_the_commit_is_made_again_on_top(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.hook("pre-receive", f"[ -e moved ] && exit 0; touch moved\n{ANOTHER_COMMIT}")
        published = publish(bare, commit_of())
        subjects = bare.subjects()
        assert subjects[0] == "Publish air_quality v1: why"
        assert subjects[1].startswith("Another")
        assert subjects[2:] == ["Other"]
        assert bare.refs()["refs/tags/air_quality/v1"] == published.commit
        assert bare.files() == {"other": b"1", **commit_of().files}

    def test_a_branch_that_never_rests_is_left_for_later(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.hook("pre-receive", ANOTHER_COMMIT)
        with pytest.raises(WillPass, match="moved 5 times"):
            publish(bare, commit_of())
        assert "refs/tags/air_quality/v1" not in bare.refs()

    def test_a_commit_that_another_writer_built_on_at_once_counts(self, bare: Bare) -> None:
        bare.hook("post-receive", ANOTHER_COMMIT)
        published = publish(bare, commit_of())
        assert bare.git("rev-parse", "main~1") == published.commit

    def test_a_commit_that_was_taken_and_thrown_away_is_not_reported(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.hook("post-receive", "git update-ref refs/heads/main main~1")
        with pytest.raises(WillPass, match="does not show"):
            publish(bare, commit_of())

    @pytest.mark.parametrize("caches", [("one", "one"), ("one", "two")])
    def test_two_publishers_at_once_both_get_through(
        self, bare: Bare, caches: tuple[str, str]
    ) -> None:
        commits = [
            replace(
                commit_of(1, name), files={f"{name}/README.md": name.encode()}
            ) for name in ("air_quality", "parcels")
        ]  # fmt: skip
        with ThreadPoolExecutor() as pool:
            list(pool.map(publish, (bare, bare), commits, caches))
        assert len(bare.subjects()) == 2
        assert set(bare.files()) == {"air_quality/README.md", "parcels/README.md"}

    def test_a_branch_that_was_set_back_is_built_on_as_it_is(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.commit({"other": b"2"}, message="To be dropped")
        publish(bare, commit_of(1))
        bare.git("update-ref", "refs/heads/main", "main~2")
        publish(bare, commit_of(2))
        assert bare.subjects() == ["Publish air_quality v2: why", "Other"]


class TestTags:
    """The tag of the model is there already, or is not."""

    def test_a_tag_on_something_else_is_not_moved(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.git("tag", "air_quality/v1", "main")
        before = bare.refs()
        with pytest.raises(WillNotPass, match=r"tag air_quality/v1 stands on .* delete the tag"):
            publish(bare, commit_of())
        assert bare.refs() == before

    def test_another_systems_model_of_the_same_name_is_not_taken_for_ours(self, bare: Bare) -> None:
        publish(bare, commit_of(run="b" * 32))
        before = bare.refs()
        with pytest.raises(WillNotPass, match="another system publishes here"):
            publish(bare, commit_of(), cache="new")
        assert bare.refs() == before

    def test_a_tag_that_appears_during_the_push_is_not_moved(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        bare.hook("pre-receive", "unset GIT_QUARANTINE_PATH; git tag air_quality/v1 main || true")
        with pytest.raises(WillNotPass, match="tag air_quality/v1"):
            publish(bare, commit_of())
        assert bare.subjects() == ["Other"]

    def test_a_missing_tag_is_set_on_the_commit_that_is_there(self, bare: Bare) -> None:
        first = publish(bare, commit_of())
        bare.commit({"other": b"1"})
        bare.git("tag", "--delete", "air_quality/v1")
        assert said(publish(bare, commit_of())) == (first.commit, True)
        assert bare.refs()["refs/tags/air_quality/v1"] == first.commit
        assert len(bare.subjects()) == 2

    @pytest.mark.parametrize("tag", ["air_quality", "air_quality/v1/approved"])
    def test_a_tag_where_git_needs_a_folder_is_named(self, bare: Bare, tag: str) -> None:
        bare.commit({"other": b"1"})
        bare.git("tag", tag, "main")
        with pytest.raises(WillNotPass, match=rf"refs/tags/{tag} is in the way .* delete"):
            publish(bare, commit_of())
        assert bare.subjects() == ["Other"]

    def test_a_branch_where_git_needs_a_folder_is_named(self, bare: Bare) -> None:
        bare.commit({"other": b"1"}, branch="models")
        with pytest.raises(WillNotPass, match=r"refs/heads/models is in the way .* publish.branch"):
            publish(bare, commit_of(), branch="models/air")
        assert bare.refs().keys() == {"refs/heads/models"}

    def test_a_tag_with_words_of_its_own_is_fine(self, bare: Bare) -> None:
        first = publish(bare, commit_of())
        bare.git("tag", "--force", "-m", "Approved", "air_quality/v1", first.commit)
        assert said(publish(bare, commit_of())) == (first.commit, True)


class TestRefusals:
    """The remote does not take the push."""

    def test_a_hooks_words_are_passed_on_and_nothing_is_left(self, bare: Bare) -> None:
        bare.commit({"other": b"1"})
        before = bare.refs()
        bare.hook(
            "update", '[ "$1" = refs/heads/main ] && echo "Not on a Friday." && exit 1; exit 0'
        )
        with pytest.raises(WillNotPass, match="Not on a Friday"):
            publish(bare, commit_of())
        assert bare.refs() == before
        (bare.path / "hooks" / "update").unlink()
        assert not publish(bare, commit_of()).already_there

    def test_a_host_without_atomic_pushes_gets_a_plain_one(self, bare: Bare) -> None:
        bare.git("config", "receive.advertiseAtomic", "false")
        published = publish(bare, commit_of())
        assert set(bare.refs().values()) == {published.commit}
        assert len(bare.refs()) == 2

    def test_without_atomic_pushes_half_of_one_is_completed_later(self, bare: Bare) -> None:
        bare.git("config", "receive.advertiseAtomic", "false")
        bare.hook("update", 'case "$1" in refs/tags/*) echo "No tags yet."; exit 1;; esac')
        with pytest.raises(WillNotPass, match="No tags yet"):
            publish(bare, commit_of())
        (bare.path / "hooks" / "update").unlink()
        assert publish(bare, commit_of()).already_there
        assert len(bare.subjects()) == 1
        assert "refs/tags/air_quality/v1" in bare.refs()

    def test_a_repository_with_a_working_copy(self, tmp_path: Path) -> None:
        (tmp_path / "work").mkdir()
        git(tmp_path / "work", "init", "--quiet", "--initial-branch=main", ".")
        git(tmp_path / "work", "commit", "--quiet", "--allow-empty", "--message=x")
        with pytest.raises(WillNotPass, match="bare repository"):
            publish(Bare(tmp_path / "work"), commit_of())

    def test_no_repository(self, tmp_path: Path) -> None:
        with pytest.raises(WillNotPass, match=r"no such repository.*MODEL_REPOSITORY"):
            publish(Bare(tmp_path / "nothing.git"), commit_of())

    def test_a_repository_of_another_object_format_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "models.git").mkdir()
        git(tmp_path / "models.git", "init", "--quiet", "--bare", "--object-format=sha256", ".")
        bare = Bare(tmp_path / "models.git")
        bare.commit({"other": b"1"})
        with pytest.raises(WillNotPass, match=r"SHA-256.* MODEL_REPOSITORY"):
            publish(bare, commit_of())

    @pytest.mark.parametrize(
        ("there", "path"), [("air", "air/README.md"), ("README.md/x", "README.md")]
    )
    def test_other_peoples_files_are_not_overwritten(
        self, bare: Bare, there: str, path: str
    ) -> None:
        bare.commit({there: b"theirs"})
        with pytest.raises(WillNotPass, match=r"in the way .* publish.directory"):
            publish(bare, replace(commit_of(), files={path: b"ours"}))
        assert bare.files() == {there: b"theirs"}

    def test_a_name_that_stands_twice_on_the_branch(self, bare: Bare) -> None:
        """Ours would be one of the two, and nobody could tell which a checkout takes."""
        theirs = git(bare.path, "hash-object", "-w", "--stdin", stdin=b"theirs").decode().strip()
        twice = (b"100644 model.joblib\0" + bytes.fromhex(theirs)) * 2
        write = ("hash-object", "-t", "tree", "-w", "--literally", "--stdin")
        tree = git(bare.path, *write, stdin=twice).decode().strip()
        bare.git("update-ref", "refs/heads/main", bare.git("commit-tree", "-m", "x", tree))
        before = bare.refs()
        with pytest.raises(WillNotPass, match=r"stands twice: `git fsck` .* set publish\.branch"):
            publish(bare, commit_of())
        assert bare.refs() == before


def _cut_head(cache: Path) -> None:
    (cache / "HEAD").write_bytes(b"")


def _break_packs(cache: Path) -> None:
    for pack in (cache / "objects").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"no pack")


def _lose_objects(cache: Path) -> None:
    shutil.rmtree(cache / "objects")


def _spoil_configuration(cache: Path) -> None:
    (cache / "config").write_text("[core\n")


def _leave_locks(cache: Path) -> None:
    for name in ("shallow", "refs/trimtab/made", "refs/remotes/origin/main", "packed-refs"):
        (cache / f"{name}.lock").touch()


def _replace_by_file_of_zeros(cache: Path) -> None:
    (cache / "refs/remotes/origin/main").write_bytes(b"\0" * 41)


@pytest.mark.parametrize(
    "spoil",
    [
        _cut_head,
        _break_packs,
        _lose_objects,
        _spoil_configuration,
        _leave_locks,
        _replace_by_file_of_zeros,
    ],
)
@pytest.mark.parametrize("remote_moved", [True, False])
def test_a_broken_cache_is_made_anew(
    bare: Bare, spoil: Callable[[Path], None], remote_moved: bool
) -> None:
    publish(bare, commit_of(1))
    if remote_moved:
        bare.commit({"other": b"1"})
    spoil(cache_of(bare))
    assert not publish(bare, commit_of(2)).already_there
    assert bare.subjects()[0] == "Publish air_quality v2: why"
    assert len(bare.subjects()) == (3 if remote_moved else 2)
    bare.git("fsck", "--strict")


def test_a_publisher_killed_during_its_push_leaves_no_second_commit(
    bare: Bare, tmp_path: Path
) -> None:
    bare.hook("pre-receive", f"touch {tmp_path}/pushing; sleep 60")
    script = """
        import sys
        from pathlib import Path
        from tests.integration.publisher.bare import Bare
        from tests.integration.publisher.test_repository import commit_of, publish
        publish(Bare(Path(sys.argv[1])), commit_of())
    """
    publisher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(bare.path)], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pushing").exists():
            assert publisher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(publisher.pid, signal.SIGKILL)
        publisher.wait()
    assert bare.refs() == {}
    made = git(cache_of(bare), "rev-parse", "refs/trimtab/made").decode().strip()
    (bare.path / "hooks" / "pre-receive").unlink()
    assert said(publish(bare, commit_of())) == (made, False)
    assert bare.subjects() == ["Publish air_quality v1: why"]
    assert bare.files() == commit_of().files


def test_variables_of_the_process_do_not_reach_git(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traps = {
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "GIT_WORK_TREE": str(tmp_path),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_TRACE2_EVENT": str(tmp_path / "trace2"),
        "GIT_AUTHOR_NAME": "Somebody",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='nonsense'",
        "GIT_CONFIG_COUNT": "7",
    }
    for name, value in traps.items():
        monkeypatch.setenv(name, value)
    published = publish(bare, commit_of())
    for name in traps:
        monkeypatch.delenv(name)
    assert bare.refs()["refs/heads/main"] == published.commit
    assert {path.name for path in tmp_path.iterdir()} == {"models.git", "cache"}


def test_the_configuration_of_the_machines_user_is_not_read(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detour = f'[url "{tmp_path}/elsewhere"]\ninsteadOf = {bare.path}\n'
    (tmp_path / ".gitconfig").write_text(detour)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not publish(bare, commit_of()).already_there


def test_no_hook_is_run_on_this_machine(bare: Bare, tmp_path: Path) -> None:
    publish(bare, commit_of(1))
    hook = cache_of(bare) / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    publish(bare, commit_of(2))
    assert hook.exists()
    assert not (tmp_path / "ran").exists()


def test_a_repository_around_a_broken_cache_is_left_alone(bare: Bare, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", ".")
    publish(bare, commit_of(1))
    _cut_head(cache_of(bare))
    before = set((tmp_path / ".git").rglob("*"))
    publish(bare, commit_of(2))
    assert set((tmp_path / ".git").rglob("*")) == before
