# shellcheck shell=sh
# To be read by the scripts beside it, which run where `.env` is.

setting() { # NAME: from the environment, else from .env as compose reads it; may be empty
    eval "found=\${$1:-}"
    [ -n "$found" ] || found=$(
        sed -n "s/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}$1=//p" .env 2>/dev/null | tail -n 1 |
            sed "/^[\"']/!s/[[:space:]]#.*//; s/[[:space:]]*\$//; s/^\"\([^\"]*\)\".*/\1/; s/^'\([^']*\)'.*/\1/"
    )
    printf '%s' "$found"
}
