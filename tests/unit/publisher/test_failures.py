"""What Git's words mean: try again, give up and say what to do, or suspect the cache."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.publisher.host_answers import FULL_DISK_SECONDS
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


SAID_BY_HOSTS = {
    "GitHub, a large file": (
        "remote: error: Trace: 8f0f\nremote: error: See https://gh.io/lfs for more information.\n"
        "remote: error: File model.joblib is 123.00 MB; this exceeds GitHub's file size limit of "
        "100.00 MB\nremote: error: GH001: Large files detected. You may want to try Git Large File "
        "Storage - https://git-lfs.github.com.\nerror: failed to push some refs to ''\n"
        "! [remote rejected] main -> main (pre-receive hook declined)",
        WillNotPass, "training.parameters"),
    "GitHub, a large push": (
        "remote: fatal: pack exceeds maximum allowed size (2.00 GiB)\nerror: remote unpack failed: "
        "index-pack abnormal exit\n! [remote rejected] main -> main (unpacker error)",
        WillNotPass, "training.parameters"),
    "a proxy's limit": (
        "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\nsend-pack: "
        "unexpected disconnect while reading sideband packet\nfatal: the remote end hung up "
        "unexpectedly", WillNotPass, "training.parameters"),
    "GitLab, a large file": (
        "remote: GitLab: You are attempting to check in one or more blobs which exceed the 100MiB "
        "limit:\nremote: File 'model.joblib' is larger than the allowed size of 100 MiB.\n"
        "! [remote rejected] main -> main (pre-receive hook declined)",
        WillNotPass, "training.parameters"),
    "GitLab, the repository's size": (
        "remote: GitLab: Your push to this repository would cause it to exceed the allocated "
        "storage limit of 10 GiB\nremote: exceed the repository size limit\n! [remote "
        "rejected] main -> main (pre-receive hook declined)", WillNotPass, "remove old models"),
    "Bitbucket, the repository's size": (
        "remote: Repository size limit exceeded: 4.1 GB\n! [remote rejected] (pre-receive hook "
        "declined)", WillNotPass, "remove old models"),
    "a full disk": (
        "remote: fatal: write error: No space left on device\nerror: remote unpack failed: "
        "index-pack abnormal exit\n! [remote rejected] main -> main (unpacker error)",
        WillPass, "the host's disk is full"),
    "a quota": (
        "remote: error: file write error: Disk quota exceeded\nremote: fatal: unable to write "
        "loose object file\n! [remote rejected] main -> main (unpacker error)",
        WillPass, "the host's disk is full"),
    "a hook that finds no room": (
        "remote: sh: write error: No space left on device\n! [remote rejected] main -> main "
        "(pre-receive hook declined)", WillPass, "the host's disk is full"),
    "a read-only disk": (
        "remote: fatal: unable to create temporary object directory: Read-only file system\n"
        "! [remote rejected] (unpacker error)", WillPass, "the host's disk is read-only"),
    "nothing but that it was not kept": (
        "error: remote unpack failed: unable to create temporary object directory\n"
        "! [remote rejected] (unpacker error)", WillPass, "rights on its folder"),
    "the rights of the host's files": (
        "remote: error: insufficient permission for adding an object to repository database "
        "./objects\nremote: fatal: failed to write object\n! [remote rejected] (unpacker error)",
        WillNotPass, "the right to write into its folder"),
    "GitHub, a secret": (
        "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote:\n"
        "remote: - GITHUB PUSH PROTECTION\nremote:   Resolve the following violations before "
        "pushing again\nremote:   - Push cannot contain secrets\nremote:   locations:\nremote:     "
        "- path: drift_report.json:12\n! [remote rejected] main -> main (push declined due to "
        "repository rule violations)", WillNotPass, "holds a secret"),
    "GitHub, a rule": (
        "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - "
        "Changes must be made through a pull request.\n! [remote rejected] main -> main (push "
        "declined due to repository rule violations)", WillNotPass, "exempt the publisher"),
    "GitHub, a protected branch": (
        "remote: error: GH006: Protected branch update failed for refs/heads/main.\nremote: error: "
        "Changes must be made through a pull request.\n! [remote rejected] main -> main (protected "
        "branch hook declined)", WillNotPass, "the branch is protected"),
    "GitLab, a protected branch": (
        "remote: GitLab: You are not allowed to push code to protected branches on this project.\n"
        "! [remote rejected] main -> main (pre-receive hook declined)",
        WillNotPass, "the branch is protected"),
    "GitHub, a token without the right": (
        "remote: Write access to repository not granted.\nfatal: unable to access '': The "
        "requested URL returned error: 403", WillNotPass, "contents: write"),
    "GitLab, a member without the right": (
        "remote: You are not allowed to push code to this project.\nfatal: unable to access "
        "'': The requested URL returned error: 403", WillNotPass, "contents: write"),
    "GitHub, single sign-on": (
        "remote: The 'o' organization has enabled or enforced SAML SSO. To access this repository, "
        "you must use the HTTPS remote with a personal access token\nfatal: unable to access "
        "'': The requested URL returned error: 403", WillNotPass, "authorize GITHUB_TOKEN"),
    "GitHub, an archived repository": (
        "remote: This repository was archived so it is read-only.\nfatal: unable to access '': The "
        "requested URL returned error: 403", WillNotPass, "unarchive it"),
    "GitHub, a wrong token": (
        "remote: Invalid username or token. Password authentication is not supported for Git "
        "operations.\nfatal: Authentication failed for ''",
        WillNotPass, "mistyped, expired or revoked"),
    "GitLab, a wrong token": (
        "remote: HTTP Basic: Access denied. If a password was provided for Git authentication, the "
        "password was incorrect or you're required to use a token instead of a password.\nfatal: "
        "Authentication failed for ''", WillNotPass, "mistyped, expired or revoked"),
    "a login page": (
        "fatal: https://host.example/o/r.git/info/refs not valid: is this a git repository?",
        WillNotPass, "it may be a login page"),
    "a redirection to a login page": (
        "fatal: unable to update url base from redirection:\n  asked for: https://h/o/r.git/info/"
        "refs?service=git-upload-pack\n   redirect: https://h/login",
        WillNotPass, "it may be a login page"),
    "a web page in place of the answer to a push": (
        "fatal: protocol error: bad line length character: <!DO\nerror: failed to push some refs",
        WillNotPass, "it may be a login page"),
    "GitHub, out of order": (
        "! [remote rejected] main -> main (Internal Server Error)\nerror: failed to push some refs",
        WillPass, "overloaded or out of order"),
    "GitLab, out of order": (
        "remote: GitLab: Internal API unreachable\n! [remote rejected] main -> main (pre-receive "
        "hook declined)", WillPass, "overloaded or out of order"),
    "too many requests": (
        "remote: You have exceeded a secondary rate limit.\nfatal: unable to access '': The "
        "requested URL returned error: 403", WillPass, "overloaded or out of order"),
    "no name": (
        "fatal: unable to access '': Could not resolve host: host.example", WillPass, "DNS"),
    "no host": (
        "fatal: unable to access '': Failed to connect to h port 443 after 3 ms: Couldn't "
        "connect to server", WillPass, "cannot be reached"),
    "no answer": (
        "fatal: unable to access '': Operation too slow. Less than 1000 bytes/sec transferred the "
        "last 60 seconds", WillPass, "did not answer in time"),
    "no TLS": (
        "fatal: unable to access '': gnutls_handshake() failed: An unexpected TLS packet was "
        "received.", WillPass, "serves HTTPS"),
    "a certificate": (
        "fatal: unable to access '': server certificate verification failed. CAfile: none CRLfile: "
        "none", WillNotPass, "GIT_SSL_CAINFO"),
    "another's certificate": (
        "fatal: unable to access '': SSL: certificate subject name (a) does not match target host "
        "name 'b'", WillNotPass, "GIT_SSL_CAINFO"),
}  # fmt: skip
"""Case -> what the host said, whether another try may help, and a part of what is told."""


@pytest.mark.parametrize("case", SAID_BY_HOSTS)
def test_what_a_host_said_is_told_apart(git: IsolatedGit, case: str) -> None:
    said, kind, remedy = SAID_BY_HOSTS[case]
    failure = git.failure("push", Answer(1, "", said))
    assert type(failure) is kind
    assert remedy in str(failure)
    assert said.splitlines()[-1].strip() in str(failure), "what the host said is quoted"


def test_a_full_disk_of_the_host_is_waited_for_longer_than_other_failures(git: IsolatedGit) -> None:
    full = git.failure("push", Answer(1, "", "remote: fatal: write error: No space left on device"))
    assert isinstance(full, WillPass)
    assert full.retry_after == FULL_DISK_SECONDS
    busy = git.failure("push", Answer(1, "", "fatal: The requested URL returned error: 503"))
    assert isinstance(busy, WillPass)
    assert busy.retry_after is None


@pytest.mark.parametrize("command", ["fetch", "ls-remote"])
def test_a_full_disk_of_this_machine_is_told_apart_from_the_hosts(
    git: IsolatedGit, command: str
) -> None:
    full = (
        "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output"
    )
    here = git.failure(command, Answer(128, "", full))
    assert isinstance(here, WillPass)
    assert "no room on the disk of GIT_CACHE" in str(here)
    there = git.failure(command, Answer(128, "", f"remote: {full}"))
    assert "the host's disk is full" in str(there)


def test_decisive_words_are_shown_wherever_they_stand(git: IsolatedGit) -> None:
    said = "a\n" * 500 + "remote: error: GH001: Large files detected.\n" + "b\n" * 500
    text = str(git.failure("push", Answer(1, "", said)))
    assert "GH001: Large files detected." in text
    assert len(text) < 1_000


def test_a_host_cannot_write_to_the_terminal_and_names_no_user(git: IsolatedGit) -> None:
    said = "remote: \x1b[31mno\x07 https://me:hunter2@host.example/x\u202e error: 403"
    text = str(git.failure("push", Answer(1, "", said)))
    assert "no https://***@host.example/x error: 403" in text.replace("[31m", "")
    assert text.isprintable()
