"""What Git's words mean: try again, give up and say what to do, or suspect the cache."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.publisher.isolated_git import Answer, IsolatedGit, UnexpectedFailure
from shared.failures import WillNotPass, WillPass

ADDRESS = "https://host.example/timed-out/error:-503/GH013"
"""An address with words of failures in it."""

TOKEN = SecretStr("abc-token")
TOKEN_IN_BASE64 = "eC1hY2Nlc3MtdG9rZW46YWJjLXRva2Vu"


@pytest.fixture
def git(tmp_path: Path) -> IsolatedGit:
    return IsolatedGit(tmp_path, ADDRESS, None, TOKEN)


@pytest.mark.parametrize(
    "said",
    [
        f"fatal: unable to access '{ADDRESS}/': Could not resolve host: host.example",
        f"fatal: unable to access '{ADDRESS}/': The requested URL returned error: 503",
        f"fatal: unable to access '{ADDRESS}/': The requested URL returned error: 429",
        "fatal: unable to access '': Failed to connect to host.example port 443 after 1 ms: "
        "Couldn't connect to server",
        "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote "
        "repository.\n\nPlease make sure you have the correct access rights\nand the repository "
        "exists.",
        "ssh: connect to host h port 22: Connection timed out\nfatal: Could not read from remote",
        "error: RPC failed; HTTP 500 curl 22 The requested URL returned error: 500\nfatal: the "
        "remote end hung up unexpectedly",
        "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
        'Timeout: the command "git push" did not complete in 600 secs.',
        "remote: Internal Server Error",
    ],
)
def test_what_may_pass(git: IsolatedGit, said: str) -> None:
    assert isinstance(git.failure("push", Answer(128, "", said)), WillPass)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("remote: error: GH001: Large files detected.\nremote: error: File model.joblib is 120.00 "
         "MB; this exceeds GitHub's file size limit of 100.00 MB", "training.parameters"),
        ("error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\nsend-pack: "
         "unexpected disconnect while reading sideband packet", "training.parameters"),
        ("remote: error: GH013: Repository rule violations found for refs/heads/main.",
         "publish.branch"),
        ("remote: error: GH006: Protected branch update failed for refs/heads/main.",
         "publish.branch"),
        ("remote: Invalid username or password.\nfatal: Authentication failed for ''",
         "GITHUB_TOKEN"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled",
         "GITHUB_TOKEN"),
        ("remote: Permission to o/r.git denied to bot.\nfatal: unable to access '': The requested "
         "URL returned error: 403", "contents: write"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
         "no right to write"),
        ("remote: Repository not found.\nfatal: repository 'https://h/' not found",
         "MODEL_REPOSITORY"),
        ("fatal: '/srv/no.git' does not appear to be a git repository", "MODEL_REPOSITORY"),
        ("fatal: unable to access '': SSL certificate problem: self signed certificate",
         "GIT_SSL_CAINFO"),
        ("fatal: detected dubious ownership in repository at '/srv/models.git'", "owner"),
    ],
)  # fmt: skip
def test_what_will_not_pass_says_what_to_do(git: IsolatedGit, said: str, remedy: str) -> None:
    failure = git.failure("push", Answer(1, "", said))
    assert isinstance(failure, WillNotPass)
    assert remedy in str(failure)
    assert said.splitlines()[-1][-30:] in str(failure)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("!\tx:refs/heads/main\t[remote rejected] (pre-receive hook declined)", "hook"),
        ("!\tx:refs/heads/main\t[remote rejected] (protected branch hook declined)", "protected"),
        ("!\tx:refs/heads/main\t[remote rejected] (branch is currently checked out)", "bare"),
    ],
)
def test_what_a_push_reports_for_a_branch_counts(git: IsolatedGit, line: str, remedy: str) -> None:
    failure = git.failure("push", Answer(1, f"To host\n{line}\nDone", "error: failed to push"))
    assert isinstance(failure, WillNotPass)
    assert remedy in str(failure)


@pytest.mark.parametrize(
    "said",
    [
        "fatal: something that nobody has seen",
        f"fatal: not a git repository: '/x' while on {ADDRESS}",
        "error: pack-objects died of signal 15\nfatal: the remote end hung up unexpectedly",
        "",
    ],
)
def test_what_is_not_known_puts_the_cache_under_suspicion(git: IsolatedGit, said: str) -> None:
    assert isinstance(git.failure("fetch", Answer(128, "", said)), UnexpectedFailure)


@pytest.mark.parametrize("end", ["error: 403", "error: 503", "nobody knows"])
def test_a_remote_that_repeats_the_secret_is_not_quoted(git: IsolatedGit, end: str) -> None:
    said = f"remote: bad {TOKEN.get_secret_value()} in Basic {TOKEN_IN_BASE64} {end}"
    text = str(git.failure("push", Answer(1, "", said)))
    assert "bad *** in Basic ***" in text
    assert TOKEN.get_secret_value() not in text
    assert TOKEN_IN_BASE64 not in text


def test_a_long_answer_is_judged_whole_and_quoted_at_its_end(git: IsolatedGit) -> None:
    said = "remote: error: GH001: Large files detected.\n" + "remote: more\n" * 500 + "the end"
    failure = git.failure("push", Answer(1, "", said))
    assert isinstance(failure, WillNotPass)
    assert "training.parameters" in str(failure)
    assert str(failure).endswith("the end")
    assert len(str(failure)) < 1_000


def test_hints_for_people_at_a_terminal_are_left_out(git: IsolatedGit) -> None:
    said = "hint: use 'git pull'\nerror: 403\nhint: again"
    assert "hint" not in str(git.failure("push", Answer(1, "", said)))
