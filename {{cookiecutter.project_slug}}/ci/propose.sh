#!/bin/sh
{% if cookiecutter.ci == "github" %}
# Opens a pull request with what `make update` (template) or `make lock` (lock) changes, in two jobs:
{% else %}
# Opens a merge request with what `make update` (template) or `make lock` (lock) changes, in two jobs:
{% endif %}
#
#   sh ci/propose.sh make template    makes a branch, and writes it into proposal/template.bundle
#   sh ci/propose.sh open template    opens the request with the branch in that file
#
# What is made runs code that nobody has reviewed yet, so only the second job has a token that may write.
# It runs nothing that the first one has made.
# As long as its branch exists in the repository, nothing is proposed a second time.
set -eu

has_conflicts() {
    git rev-parse --quiet --verify CHERRY_PICK_HEAD >/dev/null
}

make_branch() {
{% if cookiecutter.ci == "github" %}
    export GIT_AUTHOR_NAME="github-actions[bot]"
    export GIT_AUTHOR_EMAIL="41898282+github-actions[bot]@users.noreply.github.com"
{% else %}
    export GIT_AUTHOR_NAME="$GITLAB_USER_NAME"
    export GIT_AUTHOR_EMAIL="$GITLAB_USER_EMAIL"
{% endif %}
    export GIT_COMMITTER_NAME="$GIT_AUTHOR_NAME"
    export GIT_COMMITTER_EMAIL="$GIT_AUTHOR_EMAIL"

    # make has one exit code for all failures.
    if ! output=$($made_by 2>&1) && ! has_conflicts; then
        echo "$output" >&2
        case $output in *"Write the address of the template"*) exit ;; esac
        exit 1
    fi
    echo "$output"

    if has_conflicts; then
        conflicts=$(git diff --name-only --diff-filter=U | tr '\n' ' ')
        # Not --all: the update may ignore less than before.
        git add --update
        git commit --quiet --no-edit --cleanup=strip --trailer "Conflicts: $conflicts"
    elif [ "$what" = lock ] && ! git diff --quiet -- constraints.txt; then
        git switch --quiet --create newer-dependencies
        git commit --quiet --message "Renew the versions in constraints.txt" constraints.txt
    fi

    branch=$(git branch --show-current)
    if [ "$branch" = "$base" ]; then
        echo "There is nothing to propose."
        exit
    fi
    mkdir -p proposal
    git bundle create --quiet "$bundle" "$base..$branch"
}

open_request() {
    if [ ! -e "$bundle" ]; then
        echo "There is nothing to propose."
        exit
    fi
    heads=$(git bundle list-heads "$bundle")
    branch=${heads#* refs/heads/}
    # The file may have any content: it must not choose main, or more than one branch.
    case $branch in *[!a-zA-Z0-9.-]*) branch= ;; esac
    case $branch in
    tornado-template-* | newer-dependencies) ;;
    *)
        echo "$bundle must have one branch, tornado-template-* or newer-dependencies." >&2
        exit 1
        ;;
    esac
    git fetch --quiet --no-tags "./$bundle" "refs/heads/$branch:refs/heads/$branch"

{% if cookiecutter.ci == "github" %}
    gh auth setup-git
{% endif %}
    if git ls-remote --exit-code origin "refs/heads/$branch" >/dev/null; then
        echo "$branch has been proposed before. Delete it in the repository to propose it again."
        exit
    fi

    title=$(git log -1 --format=%s "$branch" --)
    body="\`$made_by\` has made this change."
    conflicts=$(git log -1 --format="%(trailers:key=Conflicts,valueonly,separator=%x20)" "$branch" --)
    if [ -n "$conflicts" ]; then
        title="$title (with conflicts)"
        body="$body Resolve the conflicts, which are marked in these files: $conflicts"
    fi
{% if cookiecutter.ci == "github" %}
    # What the commit says is to be done by hand.
    body="$body

$(git log -1 --format=%b "$branch" --)"
    git push --quiet origin "$branch"
    if ! gh pr create --base "$base" --head "$branch" --title "$title" --body "$body"; then
        # So that the next run tries again.
        git push --quiet origin --delete "$branch"
        exit 1
    fi
    gh workflow run ci.yml --ref "$branch"
{% else %}
    git push --quiet --push-option=merge_request.remove_source_branch \
        --push-option=merge_request.create --push-option="merge_request.target=$base" \
        --push-option="merge_request.title=$title" --push-option="merge_request.description=$body" \
        "https://update:$UPDATE_TOKEN@$CI_SERVER_HOST/$CI_PROJECT_PATH.git" "$branch"
{% endif %}
}

what=${2:-}
bundle=proposal/$what.bundle
base=$(git branch --show-current)
case $what in
template) made_by="make update" ;;
lock) made_by="make lock" ;;
esac
case "${1:-} $what" in
"make template" | "make lock") make_branch ;;
"open template" | "open lock") open_request ;;
*)
    echo "Usage: sh ci/propose.sh make|open template|lock" >&2
    exit 64
    ;;
esac
