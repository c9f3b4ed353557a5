"""What a Git host's answer means: whether to try again, and what a person is to do.

Git and its hosts say it in words alone. The words below are those of Git itself, GitHub, GitLab,
Bitbucket, Azure DevOps and Gerrit.
"""

import re
from dataclasses import dataclass
from typing import Final

from shared.failures import WillNotPass, WillPass

FULL_DISK_SECONDS: Final = 300.0
"""The pause is longer than after other failures: a full disk is seldom cleared within seconds."""

NO_SPACE: Final = r"no space left on device|disk quota exceeded"

_SHOWN: Final = 600
_BEFORE: Final = 100


@dataclass(frozen=True)
class _Meaning:
    """What some words mean. The first meaning whose words are there counts."""

    words: re.Pattern[str]
    passes: bool
    remedy: str
    wait: float | None = None
    """Seconds until the next try; none: as after any failure."""


def _gives_up(words: str, remedy: str) -> _Meaning:
    return _Meaning(re.compile(words, re.IGNORECASE), passes=False, remedy=remedy)


def _tries_again(words: str, remedy: str, wait: float | None = None) -> _Meaning:
    return _Meaning(re.compile(words, re.IGNORECASE), passes=True, remedy=remedy, wait=wait)


_MEANINGS: Final = (
    # What is pushed.
    _gives_up(
        r"GH001|exceeds GitHub's file size limit|pack exceeds maximum allowed size|"
        r"larger than the allowed size|files? (is|are) larger than|VS403654|(error:|HTTP) 413|"
        r"request entity too large",
        "the host does not take a file or a push of this size; make the model smaller by "
        "training.parameters (min_samples_leaf, max_depth, n_estimators), or raise the limit there",
    ),
    _gives_up(
        r"(storage|repository|size) (size )?(limit|quota)s?( has been)? (exceeded|reached)|"
        r"(over|exceeds?|exceeded) (its|the|your)( \w+)? (size|storage) (limit|quota)|"
        r"exceed the (storage|repository size) limit",
        "the repository has reached the size that the host allows; remove old models there, raise "
        "the limit, or set MODEL_REPOSITORY to another repository",
    ),
    _gives_up(
        r"push protection|push cannot contain secrets|contains? (a )?secrets?\b",
        "the host says that a file holds a secret; look at the place that it names, and if there "
        "is no secret, allow it there",
    ),
    # The host's own trouble.
    _tries_again(
        NO_SPACE,
        "the host's disk is full; make room there. It is tried again",
        FULL_DISK_SECONDS,
    ),
    _tries_again(
        r"read-only file system",
        "the host's disk is read-only; repair it there. It is tried again",
        FULL_DISK_SECONDS,
    ),
    _tries_again(
        r"internal (server )?error|internal API (unreachable|error)|API is not accessible|"
        r"service unavailable|temporarily unavailable|rate limit|too many requests|"
        r"(error:|HTTP) (408|429|5\d\d)",
        "the host is overloaded or out of order. It is tried again; if it lasts, ask those who run "
        "the host",
    ),
    # Who pushes, and where to.
    _gives_up(
        r"SAML|single sign-on",
        "the organization asks for single sign-on; authorize GITHUB_TOKEN for it at the host",
    ),
    _gives_up(
        r"(is|was|been) archived|archived (repository|project)",
        "the repository is archived, so it can only be read; unarchive it, or set MODEL_REPOSITORY "
        "to another one",
    ),
    _gives_up(
        r"protected (branch|ref)|GH006|TF402455",
        "the branch is protected; let the publisher's account push to it, or set publish.branch to "
        "another one",
    ),
    _gives_up(
        r"GH013|push declined due to|repository rule violations|push rule",
        "the host's rules refuse the push; exempt the publisher's account or the branch from the "
        "rule that the host names, or set publish.branch to another one",
    ),
    _gives_up(
        r"authentication failed|invalid username or|bad credentials|HTTP Basic: Access denied|"
        r"could not read (username|password)|terminal prompts disabled|(error:|HTTP) 401",
        "the host does not accept the credentials; check GITHUB_USERNAME and GITHUB_TOKEN: a token "
        "may be mistyped, expired or revoked",
    ),
    _gives_up(
        r"insufficient permission|objects?[^:]{0,200}: permission denied|"
        r"(unable to|cannot) (create|write)[^:]{0,200}: permission denied",
        "the host's own files do not let it keep a push; give the account that serves the "
        "repository the right to write into its folder",
    ),
    _gives_up(
        r"(error:|HTTP) 403|permission to .{0,200} denied|permission denied \(|not allowed to push|"
        r"access (to repository )?not granted|TF401027|prohibited by Gerrit",
        "no right to write there; GITHUB_TOKEN needs 'contents: write' on this repository",
    ),
    _gives_up(
        r"repository .{0,200}not found|could not be found|does not appear to be a git repository|"
        r"(error:|HTTP) 404",
        "no such repository, or no right to see it; check MODEL_REPOSITORY and GITHUB_TOKEN",
    ),
    _gives_up(
        r"(error:|HTTP) 30[12378]\b",
        "the host sends us on to another address: it may be a login page, or the repository has "
        "moved. GITHUB_TOKEN goes to the host of MODEL_REPOSITORY alone, so this is not followed. "
        "Open MODEL_REPOSITORY in a browser, and set it to the repository's new address",
    ),
    _gives_up(
        r"not valid: is this a git repository|invalid server response|bad line length character|"
        r"unable to update url base from redirection|expected flush after ref listing|"
        r"redirects followed|git-http-push failed|unable to parse remote|unexpected content-type",
        "the address answers, but not as a Git host does: it may be a login page, a proxy or a web "
        "site; check MODEL_REPOSITORY, and open it in a browser",
    ),
    _gives_up(
        r"mismatched algorithms",
        "the repository names its objects by SHA-256; MODEL_REPOSITORY has to be one of Git's "
        "usual format, SHA-1",
    ),
    _gives_up(r"branch is currently checked out", "MODEL_REPOSITORY has to be a bare repository"),
    _gives_up(
        r"dubious ownership",
        "the repository belongs to another user; run the publisher as its owner, or give the "
        "folder to the publisher's user",
    ),
    _gives_up(r"hook declined", "a hook of the host refuses the push; do what it says"),
    # The way there.
    _gives_up(
        r"certificate problem|certificate verif|certificate subject name|"
        r"does not match target host name",
        "the host's certificate is not trusted; renew it if it is too old, or set "
        "GIT_SSL_CAINFO to the authority's file",
    ),
    _tries_again(
        r"could not resolve host|name or service not known|temporary failure in name resolution",
        "the host's name is not known here; check MODEL_REPOSITORY and this machine's DNS. It is "
        "tried again",
    ),
    _tries_again(
        r"timed? ?out|did not complete in|operation too slow",
        "the host did not answer in time; check the network. It is tried again",
    ),
    _tries_again(
        r"gnutls_handshake|SSL_connect|SSL_ERROR|GnuTLS recv error|TLS connect error|SSL routines",
        "there is no secure connection to the host; check that it serves HTTPS at this address. It "
        "is tried again",
    ),
    _tries_again(
        r"connection (was )?refused|couldn't connect|failed to connect|could not connect|"
        r"network is unreachable|no route to host",
        "the host cannot be reached; check MODEL_REPOSITORY and the network. It is tried again",
    ),
    _tries_again(
        r"connection (was )?(reset|closed)|early EOF|hung up|RPC failed|unexpected disconnect|"
        r"transfer closed|empty reply from server",
        "the host broke the connection off. It is tried again",
    ),
    _tries_again(
        r"unpacker error|remote unpack failed",
        "the host could not keep the push; look at its disk, its log and the rights on its folder. "
        "It is tried again",
    ),
)


def meaning(about: str, words: str, evidence: str) -> WillPass | WillNotPass | None:
    """The failure that the words tell of; none if they are not known.

    Args:
        about: the command and the address.
        words: what Git and the host said, on one line, without secrets. It is quoted in part.
        evidence: the same without what only looks like a failure, such as words in the address.
    """
    for each in _MEANINGS:
        if each.words.search(evidence):
            text = f"{about}: {each.remedy}. Git says: {shown(words, each.words)}"
            return WillPass(text, retry_after=each.wait) if each.passes else WillNotPass(text)
    return None


def shown(words: str, decisive: "re.Pattern[str] | None" = None) -> str:
    """The end of the words, and before it those that decide if they are not there."""
    end = words[-_SHOWN:]
    if decisive is None or len(words) <= _SHOWN or decisive.search(end):
        return end
    found = decisive.search(words)
    begin = max(found.start() - _BEFORE, 0) if found else 0
    half = _SHOWN // 2
    return f"{words[begin : begin + half]} … {words[-half:]}"
